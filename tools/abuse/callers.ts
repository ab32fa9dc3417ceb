/** Checks of what a caller claims in headers, and of what strangers may reach. */
import { randomBytes, randomUUID } from 'node:crypto';
import { expect, NotRun } from './check.ts';
import type { Check } from './check.ts';
import { exhaustUser } from './races.ts';
import { limitNumber } from './target.ts';
import type { Target } from './target.ts';

/** Headers by which proxies and frameworks name the client. */
const CLIENT_HEADERS = [
  'X-Forwarded-For', 'X-Real-IP', 'Forwarded', 'True-Client-IP', 'CF-Connecting-IP',
  'X-Client-IP', 'X-Originating-IP', 'X-Cluster-Client-IP', 'Fastly-Client-IP',
];

/** Paths of the admin listener and of usual mistakes. */
const PRIVATE_PATHS = [
  '/metrics', '/readyz', '/livez', '/healthz', '/debug/pprof', '/.env', '/server-status',
];

const OVERRIDES = {
  'X-Original-URL': '/metrics', 'X-Rewrite-URL': '/metrics', 'X-HTTP-Method-Override': 'DELETE',
};

export const CALLERS: readonly Check[] = [
  { name: 'forged client IPs', run: checkClientIp },
  { name: 'foreign web pages', run: checkOrigin },
  { name: 'API keys', run: checkApiKeys },
  { name: 'private paths', run: checkPrivatePaths },
  { name: 'unknown and guessed ids', run: checkIds },
  { name: 'reflected header values', run: checkReflection },
];

/** A forged header must leave what the client IP has left unchanged. */
async function checkClientIp(target: Target): Promise<string> {
  const { user, clientIp } = await exhaustUser(target);
  const leftWith = async (headers: Record<string, string>): Promise<number | null> =>
    limitNumber(await target.request({ user, clientIp, headers }), 'ratelimit', 'ip');
  const own = await leftWith({});
  if (own === null) throw new NotRun('RateLimit names no limit per client IP');
  const isNamed = target.options.apiKey !== null;
  for (const name of CLIENT_HEADERS) {
    if (isNamed && name === 'X-Client-IP') continue;
    const value = name === 'Forwarded' ? 'for=192.0.2.77' : '192.0.2.77';
    const left = await leftWith({ [name]: value });
    expect(left === own, `${name} is trusted: ${left} left instead of ${own}`);
  }
  return `${CLIENT_HEADERS.length} headers change nothing`;
}

async function checkOrigin(target: Target): Promise<string> {
  const key = randomUUID();
  const user = target.newUser();
  const clientIp = target.newClientIp();
  const origins = ['https://attacker.example', 'null', target.options.url.origin];
  for (const origin of origins) {
    const answer = await target.request({ user, clientIp, key, headers: { Origin: origin } });
    expect(answer.status === 403, `Origin: ${origin} is answered ${answer.status}`);
    expect(answer.headers['access-control-allow-origin'] === undefined,
      `Origin: ${origin} gets Access-Control-Allow-Origin`);
  }
  const preflight = await target.call({
    method: 'OPTIONS',
    path: '/otp/request',
    headers: { 'Origin': 'https://attacker.example', 'Access-Control-Request-Method': 'POST' },
  });
  expect(preflight.headers['access-control-allow-origin'] === undefined
    && preflight.status >= 400, `a preflight is answered ${preflight.status}`);
  return `${origins.length} origins and a preflight refused`;
}

async function checkApiKeys(target: Target): Promise<string> {
  if (target.options.apiKey === null) throw new NotRun('needs OTPD_API_KEY');
  const wrong = ['', 'Bearer', 'Bearer otpd_wrong', 'Basic b3RwZDpvdHBk', 'Bearer null'];
  const id = randomBytes(16).toString('hex');
  const paths = [
    ['POST', '/otp/request'], ['POST', '/otp/verify'], ['GET', `/otp/${id}`],
    ['DELETE', `/otp/${id}`],
  ] as const;
  for (const authorization of wrong) {
    for (const [method, path] of paths) {
      const { status, text } = await target.call({
        method,
        path,
        headers: { 'Authorization': authorization, 'Content-Type': 'application/json' },
        ...(method === 'POST' ? { body: '{}' } : {}),
      });
      expect(status === 401, `${method} ${path} without a valid key: ${status} ${text}`);
    }
  }
  return `${wrong.length * paths.length} requests without a valid key refused`;
}

async function checkPrivatePaths(target: Target): Promise<string> {
  for (const path of PRIVATE_PATHS) {
    const { status } = await target.call({ path });
    expect(status >= 400 && status < 500, `GET ${path} is answered ${status}`);
  }
  const { status } = await target.call({ path: '/nothing', headers: OVERRIDES });
  expect(status >= 400 && status < 500, `GET /nothing with override headers: ${status}`);
  return `${PRIVATE_PATHS.length} paths refused`;
}

/** Ids are long, and share no beginning that would make others predictable. */
async function checkIds(target: Target): Promise<string> {
  const ids = target.answers.flatMap(({ status, body }) =>
    (status === 201 ? [String(body.otp_id)] : []));
  if (new Set(ids).size < 2) throw new NotRun('no two codes were issued');
  const prefixes = new Set([...new Set(ids)].map((id) => id.slice(0, 8)));
  expect(ids.every((id) => id.length >= 22) && prefixes.size === new Set(ids).size,
    `ids are predictable: ${ids[0]}, ${ids.at(-1)}`);
  const unknown = await target.call({ path: `/otp/${randomBytes(16).toString('hex')}` });
  expect(unknown.status === 404 || unknown.status === 403,
    `an unknown id is answered ${unknown.status}`);
  const verify = await target.verify({
    user: target.newUser(), clientIp: target.newClientIp(), code: target.randomCode(),
  });
  expect(verify.status === 404, `a user without a code is answered ${verify.status}`);
  return `${new Set(ids).size} ids, none predictable`;
}

async function checkReflection(target: Target): Promise<string> {
  const marker = randomBytes(8).toString('hex');
  const values = [`<script>${marker}</script>`, `${marker}"; a=b`, marker.repeat(16)];
  for (const value of values) {
    const answer = await target.call({ path: `/${marker}?q=${marker}`, headers: {
      'X-Request-Id': value, 'User-Agent': value, 'Referer': value,
    } });
    const whole = JSON.stringify(answer.headers) + answer.text;
    expect(!whole.includes(marker), `an answer repeats what was sent: ${value.slice(0, 40)}`);
  }
  return `${values.length} values are not repeated`;
}
