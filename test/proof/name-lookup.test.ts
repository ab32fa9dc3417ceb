/**
 * The host name of the database has no address, then one, then another one: every response is
 * bounded, and the service follows without a restart.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase, serverSocket } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { canMount, withFileInPlace } from '../harness/namespace.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { atOnce, fresh, newEndUser } from './load.ts';

const CONNECTIONS_MAX = 4;
/** A name server that does not answer is asked again (resolv.conf(5), timeout and attempts). */
const LOOKUP_MAX_MS = 90_000;

const NAME = 'database.otpd.test';
const folder = mkdtempSync(join(tmpdir(), 'otpd-names-'));
const hosts = join(folder, 'hosts');

/** Sets the address of the name; null: none. */
function setAddress(address: string | null): void {
  writeFileSync(hosts, address === null ? '' : `${address} ${NAME}\n`);
}

/**
 * Replaces the lookup where mounting is not permitted: it reads the same file, and fails as the
 * resolver of the system does.
 */
const OWN_LOOKUP = `
  import dns from 'node:dns';
  import { readFileSync } from 'node:fs';
  const lookup = dns.lookup;
  dns.lookup = (name, options, done) => {
    if (name !== '${NAME}') return lookup(name, options, done);
    const [address = ''] = readFileSync(${JSON.stringify(hosts)}, 'utf8').split(' ');
    const failure = Object.assign(new Error('getaddrinfo ENOTFOUND ' + name),
      { code: 'ENOTFOUND', errno: -3008, syscall: 'getaddrinfo', hostname: name });
    if (address === '') setImmediate(done, failure);
    else setImmediate(done, null, options.all ? [{ address, family: 4 }] : address, 4);
  };`;

let database: TestDatabase;
let gateways: Gateway[];
let otpd: Otpd;

/** Forwards the port of the database at one address. */
type Gateway = Readonly<{ server: Server; cutAll: () => void }>;

async function openGateway(address: string, port: number): Promise<Gateway> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const behind = connect(serverSocket());
    for (const socket of [client, behind]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        behind.destroy();
      });
    }
    client.pipe(behind).pipe(client);
  });
  await new Promise<void>((resolve) => { server.listen(port, address, resolve); });
  return { server, cutAll: () => { for (const socket of sockets) socket.destroy(); } };
}

test.before(async () => {
  database = await createTestDatabase();
  const first = await openGateway('127.0.0.1', 0);
  const { port } = first.server.address() as AddressInfo;
  gateways = [first, await openGateway('127.0.0.2', port)];
  setAddress('127.0.0.1');
  const isMounting = canMount();
  const lookup = `--import=data:text/javascript,${encodeURIComponent(OWN_LOOKUP)}`;
  otpd = await startOtpd({
    DB_HOST: NAME, DB_PORT: String(port), DB_USER: database.settings.user,
    DB_NAME: database.settings.database, DB_CONNECTIONS: String(CONNECTIONS_MAX),
    OTP_SECRETS: newSecretsText(), TRUSTED_PROXIES: '127.0.0.0/8',
    ...(isMounting ? {} : { NODE_OPTIONS: lookup }),
  }, isMounting ? { under: withFileInPlace('/etc/hosts', hosts) } : {});
});
test.after(async () => {
  closeClient();
  otpd.stop();
  assert.is(await otpd.ended, 0);
  for (const { server, cutAll } of gateways) {
    server.close();
    cutAll();
  }
  database.close();
  rmSync(folder, { recursive: true });
});

async function request(): Promise<Reply> {
  const { user, address } = newEndUser();
  const key = fresh('k');
  return promptly(() => post({
    port: otpd.port, path: '/otp/request', body: { user_id: user, purpose: 'login' }, address,
    key,
  }));
}

async function works(): Promise<void> {
  await eventually('it works', async () => (await request()).status === 201, LOOKUP_MAX_MS);
}

async function isRefused(): Promise<void> {
  for (const { status, text, headers } of await atOnce(12, request)) {
    assert.is(`${status} ${text}`, '503 {"error":"unavailable"}');
    assert.match(String(headers['retry-after']), /^[1-9]\d*$/);
  }
}

/** MySQL notices later that a connection is closed. */
async function assertNoLeak(): Promise<void> {
  await eventually('no connection is left over', async () => {
    const [row] = await database.query(`SELECT COUNT(*) AS n FROM information_schema.processlist
      WHERE db = ? AND id <> CONNECTION_ID()`, [String(database.settings.database)]);
    return Number(row?.n) <= CONNECTIONS_MAX;
  });
}

test('requests use open connections while the name has no address, and else get 503', async () => {
  await works();
  setAddress(null);
  await works();
  gateways[0]!.cutAll();
  await isRefused();
  await isRefused();
  setAddress('127.0.0.1');
  await works();
  await assertNoLeak();
});

test('the service follows the name to another address when the old one is gone', async () => {
  await works();
  setAddress('127.0.0.2');
  gateways[0]!.server.close();
  gateways[0]!.cutAll();
  await works();
  await assertNoLeak();
});

test('requests get 503 while the address of the name refuses connections', async () => {
  setAddress('127.0.0.3');
  gateways[1]!.cutAll();
  await isRefused();
  setAddress('127.0.0.2');
  await works();
  await assertNoLeak();
});

test.run();
