// A login by one-time code: sessions in memory, codes by otpd, no package to install.
// Start: OTPD_URL=http://127.0.0.1:3000 node examples/login/server.mjs
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createClient } from '../../client/index.js';

const { OTPD_URL = 'http://127.0.0.1:3000', OTPD_KEY, PORT = '8080' } = process.env;
const SESSIONS_MAX = 10_000;
const BODY_MAX_BYTES = 4096;
const otpd = createClient({ url: OTPD_URL, apiKey: OTPD_KEY });
/** By id, the oldest first: who wants to log in (the arguments of verify), or has ({ user }). */
const sessions = new Map();

const file = (path, type) => ({ type, body: readFileSync(new URL(path, import.meta.url)) });
const FILES = {
  '/': file('index.html', 'text/html; charset=utf-8'),
  '/page.js': file('page.js', 'text/javascript'),
  '/style.css': file('style.css', 'text/css'),
  '/otp-code.js': file('../../client/otp-code.js', 'text/javascript'),
};

// __Host-: from this host alone, for all of it, and never over a connection that can be read.
const cookie = (name, value, seconds) => `__Host-${name}=${value}; Path=/; Secure; HttpOnly;`
  + ` SameSite=Lax; Max-Age=${seconds}`;

function startSession(response, session, oldId) {
  const id = randomUUID();
  sessions.delete(oldId);
  if (sessions.size >= SESSIONS_MAX) sessions.delete(sessions.keys().next().value);
  sessions.set(id, session);
  response.appendHeader('Set-Cookie', cookie('session', id, 43_200));
}

const ACTIONS = {
  // A real application looks the account up here, and passes its id with its address in `to`.
  async '/code'({ response, id, call, body }) {
    const pair = { userId: String(body.userId).trim().toLowerCase(), purpose: 'login' };
    const outcome = await otpd.request({ ...pair, ...call });
    if (outcome.kind === 'sent') startSession(response, { ...pair, otpId: outcome.otpId }, id);
    return outcome;
  },
  async '/login'({ response, id, call, body }) {
    const session = sessions.get(id);
    if (session?.otpId === undefined) return { kind: 'otp_not_found' };
    // Without an answer the user tries again, and the key gets the 200 of a code that was redeemed.
    session.idempotencyKey ??= randomUUID();
    const outcome = await otpd.verify({ ...session, ...call, code: String(body.code) });
    if (outcome.kind !== 'unavailable') delete session.idempotencyKey;
    if (outcome.kind !== 'verified') return outcome;
    // The session gets a new id, so that nobody is logged in who knew the old one.
    startSession(response, { user: session.userId }, id);
    const { device } = outcome;
    if (device) response.appendHeader('Set-Cookie', cookie('device', device, 34_560_000));
    return outcome;
  },
  async '/logout'({ response, id }) {
    sessions.delete(id);
    response.appendHeader('Set-Cookie', cookie('session', '', 0));
    return {};
  },
  '/me': async ({ id }) => ({ user: sessions.get(id)?.user ?? null }),
};

async function answer(request, response) {
  const { url, method, headers, socket } = request;
  response.setHeader('Cache-Control', 'no-store');
  response.setHeader('Content-Security-Policy', "default-src 'self'; frame-ancestors 'none'");
  if (method === 'GET' && Object.hasOwn(FILES, url)) {
    return response.setHeader('Content-Type', FILES[url].type).end(FILES[url].body);
  }
  // A form of another site can send no JSON, so nobody can log a visitor in or out from there.
  if (method !== 'POST' || !Object.hasOwn(ACTIONS, url)) return response.writeHead(404).end();
  if (headers['content-type'] !== 'application/json') return response.writeHead(415).end();
  if (!(headers['content-length'] <= BODY_MAX_BYTES)) return response.writeHead(413).end();
  const body = JSON.parse(Buffer.concat(await request.toArray()));
  const cookies = Object.fromEntries((headers.cookie ?? '').split('; ')
    .map((pair) => pair.split('=', 2)));
  // Behind a proxy of your own, take the address from the header that it sets.
  const call = { clientIp: socket.remoteAddress, devices: [cookies['__Host-device'] ?? ''] };
  const outcome = await ACTIONS[url]({ response, id: cookies['__Host-session'], call, body });
  // An outcome never contains the code. The page needs neither the id nor the device token.
  if (['failed', 'unknown', 'unavailable'].includes(outcome.kind)) console.error(outcome);
  const shown = JSON.stringify({ ...outcome, otpId: undefined, device: undefined });
  return response.setHeader('Content-Type', 'application/json').end(shown);
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.writeHead(400).end());
});
try {
  await once(server.listen(Number(PORT), 'localhost'), 'listening');
  console.log(`http://localhost:${server.address().port}`);
} catch ({ message }) {
  console.error(`${message}; set PORT to a free port`);
  process.exitCode = 1;
}
