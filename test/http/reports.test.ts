/** The route of reports of a provider: its checks, their order and its responses. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Unavailable } from '../../src/db/errors.ts';
import type { SentReport } from '../../src/otp/delivery/late-reports.ts';
import type { ReportOutcome } from '../../src/otp/outcomes.ts';
import { OTP_ID, startServer, stopServers } from './fake-service.ts';
import type { FakeOptions } from './fake-service.ts';
import { exchange } from './raw-client.ts';

const SEALED = 'a-_Z'.repeat(20);
const PATH = `/sms/status/${OTP_ID}/k-1/${SEALED}`;
const FORM = 'application/x-www-form-urlencoded';
const API_KEYS = `app:request:${'0'.repeat(64)}`;

test.after.each(stopServers);

type Call = Readonly<{ method?: string; path?: string; type?: string; lines?: string;
  body?: string }>;

function call({ method = 'POST', path = PATH, type = FORM, lines = '',
  body = 'MessageStatus=failed' }: Call = {}): string {
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\n`
    + `Content-Length: ${Buffer.byteLength(body)}\r\n${lines}\r\n${body}`;
}

async function start(outcome: ReportOutcome['kind'] | Error = 'noted', more: FakeOptions = {}) {
  const reports: SentReport[] = [];
  const server = await startServer({ ...more, report: async (sent) => {
    reports.push(sent);
    if (outcome instanceof Error) throw outcome;
    return { kind: outcome };
  } });
  const ask = async (one: Call = {}): Promise<string> => {
    const { status, body } = await exchange(server.port, call(one));
    return `${status} ${body}`.trim();
  };
  return { reports, ask };
}

test('a report needs no API key, and its parts reach the service', async () => {
  for (const more of [{}, { apiKeys: API_KEYS }]) {
    const { reports, ask } = await start('noted', more);
    assert.is(await ask(), '204');
    const type = `${FORM}; charset=UTF-8`;
    assert.is(await ask({ type, lines: 'X-Client-IP: 1.2.3\r\n' }), '204');
    const sent = { otpId: OTP_ID, keyId: 'k-1', sealed: SEALED, body: 'MessageStatus=failed' };
    assert.equal(reports, [sent, sent]);
  }
});

test('a report that is not known is answered as an unknown path', async () => {
  const { ask } = await start('unknown');
  const unknown = await ask({ path: '/sms/status' });
  assert.match(unknown, /^404 .*"not_found"/);
  assert.is(await ask(), unknown);
  const { reports, ask: askKnown } = await start();
  for (const path of [`${PATH}/`, PATH.toUpperCase(), `/sms/status/${OTP_ID}/${SEALED}`,
    `/sms/status/${OTP_ID}/k!/${SEALED}`, `/sms/status/${OTP_ID}/k/short`,
    `/sms/status/${OTP_ID}x/k/${SEALED}`]) {
    assert.is(await askKnown({ path }), unknown, path);
  }
  assert.equal(reports, []);
  const none = await startServer();
  assert.is((await exchange(none.port, call())).status, 404);
});

test('a report is checked in the order of every request', async () => {
  const { reports, ask } = await start('noted', { apiKeys: API_KEYS });
  assert.match(await ask({ lines: 'Origin: https://a.example\r\n' }), /^403 .*origin_not_allowed/);
  assert.match(await ask({ method: 'GET', type: 'x' }), /^405 .*use POST/);
  assert.match(await ask({ type: 'application/json', body: 'x'.repeat(4097) }),
    /^415 .*x-www-form-urlencoded/);
  assert.match(await ask({ body: 'x'.repeat(4097) }), /^413 /);
  assert.equal(reports, []);
});

test('a report without a status is 400, and an unanswered one is 503', async () => {
  const { ask } = await start('malformed');
  assert.is(await ask(),
    '400 {"error":"invalid_request","field":"MessageStatus","message":"is required"}');
  const { ask: askAway } = await start(new Unavailable('away'));
  assert.match(await askAway(), /^503 .*unavailable/);
});

test.run();
