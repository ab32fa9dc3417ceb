/** Checks of malformed bodies, fields and keys: a clear refusal, no code and no attempt. */
import { randomUUID } from 'node:crypto';
import { expect } from './check.ts';
import type { Check } from './check.ts';
import type { Answer, Target } from './target.ts';

const DEPTH = 1000;
const LARGE_BYTES = 1024 * 1024;

export const BODIES: readonly Check[] = [
  { name: 'malformed bodies', run: checkBodies },
  { name: 'malformed fields', run: checkFields },
  { name: 'media types and keys', run: checkHeaders },
  { name: 'what answers reveal', run: checkAnswers },
];

async function checkBodies(target: Target): Promise<string> {
  const { purpose } = target.options;
  const user = target.newUser();
  const good = JSON.stringify({ user_id: user, purpose });
  const bodies: readonly (string | Buffer)[] = [
    '', ' ', 'null', '[]', '"x"', '1', '{', `${good}}`, `${good}${good}`, good.slice(1),
    '['.repeat(DEPTH), `{"user_id":${'['.repeat(DEPTH)}`,
    `{"user_id":"${user}","user_id":"${user}","purpose":"${purpose}"}`,
    `{"user_id":"${user}","purpose":"${purpose}","admin":true}`,
    `{"__proto__":{"user_id":"${user}"},"purpose":"${purpose}"}`,
    `{"user_id":"${user}\\ud800","purpose":"${purpose}"}`,
    `{'user_id':'${user}','purpose':'${purpose}'}`, `\ufeff${good}`, `${good}\0`,
    Buffer.concat([Buffer.from(`{"user_id":"`), Buffer.from([0xff, 0xc0, 0x80]),
      Buffer.from(`","purpose":"${purpose}"}`)]),
    Buffer.from(good, 'utf16le'), `user_id=${user}&purpose=${purpose}`,
  ];
  for (const body of bodies) expectRefused(await post(target, body), String(body).slice(0, 60));
  const large = await post(target, `{"user_id":"${'u'.repeat(LARGE_BYTES)}","purpose":"p"}`);
  expect(large.status === 413 || large.status === 400, `1 MiB is answered ${large.status}`);
  return `${bodies.length + 1} bodies refused`;
}

async function checkFields(target: Target): Promise<string> {
  const { purpose, codeDigits } = target.options;
  const user = target.newUser();
  const values: readonly unknown[] = [
    null, 1, 0, true, [], [user], {}, { $ne: '' }, '', '\0', 'a\nb', '\u007f', '\u0085',
    'x'.repeat(256), '\u{1f600}'.repeat(256),
  ];
  const bodies = values.flatMap((value) => [
    { user_id: value, purpose }, { user_id: user, purpose: value },
  ]).concat({ user_id: user } as never, { purpose } as never);
  for (const body of bodies) {
    expectRefused(await post(target, JSON.stringify(body)), JSON.stringify(body).slice(0, 60));
  }
  const clientIp = target.newClientIp();
  const codes: readonly unknown[] = [
    null, 0, 123456, ['000000'], '', ' '.repeat(codeDigits), '1'.repeat(codeDigits - 1),
    '1'.repeat(codeDigits + 8), `+${'1'.repeat(codeDigits - 1)}`, '\uff11'.repeat(codeDigits),
    `${'1'.repeat(codeDigits - 1)}\n`, `${'1'.repeat(codeDigits)} `, '1e5000',
  ];
  for (const code of codes) {
    const text = JSON.stringify({ user_id: user, purpose, code });
    const answer = await target.call({ method: 'POST', path: '/otp/verify', body: text, headers: {
      'Content-Type': 'application/json',
      ...(target.options.apiKey === null ? {} : { 'X-Client-IP': clientIp }),
    } });
    expectRefused(answer, text.slice(0, 80));
  }
  return `${bodies.length + codes.length} fields refused`;
}

async function checkHeaders(target: Target): Promise<string> {
  const body = JSON.stringify({ user_id: target.newUser(), purpose: target.options.purpose });
  const types = [
    '', 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x',
    'application/json; charset=utf-16', 'application/jsonp', 'text/json, application/json',
  ];
  for (const type of types) {
    const { status } = await post(target, body, { 'Content-Type': type });
    expect(status === 415 || status === 400, `Content-Type: ${type} is answered ${status}`);
  }
  const encoded = await post(target, body, { 'Content-Encoding': 'gzip' });
  expect(encoded.status === 415 || encoded.status === 400,
    `Content-Encoding: gzip is answered ${encoded.status}`);
  const keys = ['', 'k'.repeat(256), '"', '"a', 'a\u00e4', '\u00e4'];
  for (const key of keys) {
    const answer = await post(target, body, { 'Idempotency-Key': key });
    expectRefused(answer, `Idempotency-Key: ${key.slice(0, 20)}`);
  }
  return `${types.length + keys.length + 1} headers refused`;
}

function post(
  target: Target,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return target.call({ method: 'POST', path: '/otp/request', body, headers: {
    'Content-Type': 'application/json', 'Idempotency-Key': randomUUID(), ...headers,
  } });
}

function expectRefused({ status }: Answer, what: string): void {
  expect(status >= 400 && status < 500, `${what} is answered ${status}`);
}

/** Looks through every answer of the run, so this check comes last. */
async function checkAnswers(target: Target): Promise<string> {
  const { answers, codes, options: { codeDigits } } = target;
  // Times and counts have fewer digits than a code; those of an id or a time touch a letter.
  const lone = new RegExp(`(?<!\\w)\\d{${codeDigits}}(?!\\w)`);
  const inward = /\bat .*:\d+:\d+\)?|node_modules|\bER_[A-Z]+|SELECT |mysql|ECONN|\/src\//i;
  for (const { status, headers, text } of answers) {
    expect(status < 500 || status === 503, `a request was answered ${status} ${text}`);
    expect(!inward.test(text), `an answer shows its inside: ${text.slice(0, 200)}`);
    expect(headers['cache-control'] === 'no-store', `no Cache-Control in ${status} ${text}`);
    expect(headers['x-content-type-options'] === 'nosniff', `no nosniff in ${status} ${text}`);
    const words: readonly string[] = text.match(/\d+/g) ?? [];
    expect(!lone.test(text) && !words.some((word) => codes.has(word)),
      `an answer contains a code: ${text}`);
  }
  return `${answers.length} answers looked through`;
}
