/**
 * The connection to MySQL by TCP: each mode of DB_TLS with the certificate that MySQL generates,
 * and what is said of a login that the account or the server does not accept.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDatabase } from '../../src/app/cli/doctor/check-database.ts';
import type { Finding } from '../../src/app/output.ts';
import { messageOf } from '../../src/app/output.ts';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import { createCertificate } from '../harness/certificate.ts';
import { objectOf, runCommand, variablesFor } from '../harness/command.ts';
import { freePort } from '../harness/free-port.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';

const PASSWORD = 'over-the-wire';

let server: DurableServer;
let port = 0;

test.before(async () => {
  server = await startDurableServer();
  port = await freePort();
  await server.restartWith(
    [`--port=${port}`, '--bind-address=127.0.0.1', '--auto-generate-certs=ON',
      '--caching-sha2-password-auto-generate-rsa-keys=ON'],
    ['--skip-networking', '--loose-auto-generate-certs=OFF',
      '--loose-caching-sha2-password-auto-generate-rsa-keys=OFF'],
  );
  for (const user of ['app', 'encrypted']) {
    await query(`CREATE USER ${user}@'%' IDENTIFIED BY '${PASSWORD}'`);
    await query(`GRANT ALL ON ${server.settings.database}.* TO ${user}@'%'`);
  }
  await query("ALTER USER encrypted@'%' REQUIRE SSL");
});
test.after(() => server.stop());

function query(sql: string): Promise<readonly Record<string, unknown>[]> {
  return server.database.query(sql);
}

function caFile(): string {
  return server.path('mysql/data/ca.pem');
}

function settingsWith(changes: Partial<DatabaseSettings> = {}): DatabaseSettings {
  return { ...server.settings, socketPath: null, host: 'localhost', port, user: 'app',
    password: PASSWORD, ...changes };
}

/** The cipher of a new connection, '' without TLS; or the line that a failed start prints. */
async function cipherOrLine(changes: Partial<DatabaseSettings>): Promise<string> {
  try {
    const connection = await openConnection(settingsWith(changes));
    const [row] = await connection.run('cipher', "SHOW SESSION STATUS LIKE 'Ssl_cipher'", []);
    connection.destroy();
    return String(row?.Value);
  } catch (error) {
    return messageOf(error);
  }
}

/** The faults that doctor finds, without those of a test server. */
async function doctorLine(changes: Partial<DatabaseSettings>): Promise<string> {
  const settings = settingsWith(changes);
  const pool = new ConnectionPool(() => openConnection(settings), 1);
  const findings = await checkDatabase({
    settings, pool, connections: 1, workers: 1, readHostClock: () => Date.now() * 1000,
  });
  pool.close();
  return findings.filter(({ level }) => level === 'fault')
    .map(({ found, remedy }) => `${found}; ${remedy}`).join('\n');
}

test('each mode of DB_TLS verifies what it says', async () => {
  const tlsCaFile = caFile();
  for (const host of ['localhost', '127.0.0.1']) {
    assert.is(await cipherOrLine({ host }), '');
    assert.match(await cipherOrLine({ host, tls: 'require' }), /^TLS_|^ECDHE/);
    assert.match(await cipherOrLine({ host, tls: 'verify-ca', tlsCaFile }), /^TLS_|^ECDHE/);
  }
  assert.match(await cipherOrLine({ tls: 'verify-full', tlsCaFile }),
    /: TLS_NAME_MISMATCH; the name in DB_HOST does not fit the certificate: .*DB_TLS=verify-ca/);
  const other = server.path('other-ca.pem');
  writeFileSync(other, createCertificate({ host: 'another CA' }).cert);
  for (const tls of ['verify-ca', 'verify-full'] as const) {
    assert.match(await cipherOrLine({ tls, tlsCaFile: other }),
      /: HANDSHAKE_SSL_ERROR; check that DB_TLS_CA is the CA that signed the certificate/);
  }
  assert.match(await cipherOrLine({ tls: 'verify-full' }), /: HANDSHAKE_SSL_ERROR; check that DB_/);
  assert.match(readFileSync(tlsCaFile, 'utf8'), /BEGIN CERTIFICATE/);
});

/** [what MySQL does not accept, statements that begin and end it, settings, the line] */
const REFUSALS: [string, string, string, Partial<DatabaseSettings>, RegExp][] = [
  ['an unencrypted connection', 'SET GLOBAL require_secure_transport = ON',
    'SET GLOBAL require_secure_transport = OFF', {},
    /: ER_SECURE_TRANSPORT_REQUIRED; .* set DB_TLS=verify-full or verify-ca .* DB_TLS=require$/],
  ['an account that requires TLS without it', 'DO 0', 'DO 0', { user: 'encrypted' },
    /: ER_ACCESS_DENIED_ERROR; check DB_USER and .*an account that requires TLS needs DB_TLS$/],
  ['a wrong password', 'DO 0', 'DO 0', { password: 'x', tls: 'require' },
    /: ER_ACCESS_DENIED_ERROR; check DB_USER and DB_PASSWORD, and from which hosts .* connect$/],
  ['a locked account', "ALTER USER app@'%' ACCOUNT LOCK", "ALTER USER app@'%' ACCOUNT UNLOCK", {},
    /: ER_ACCOUNT_HAS_BEEN_LOCKED; ALTER USER … ACCOUNT UNLOCK$/],
  ['an expired password', "ALTER USER app@'%' PASSWORD EXPIRE",
    `ALTER USER app@'%' IDENTIFIED BY '${PASSWORD}'`, {},
    /: ER_MUST_CHANGE_PASSWORD(_LOGIN)?; set a password for the account/],
  ['a second connection of an account', "ALTER USER app@'%' WITH MAX_CONNECTIONS_PER_HOUR 1",
    "ALTER USER app@'%' WITH MAX_CONNECTIONS_PER_HOUR 0", {},
    /: ER_USER_LIMIT_REACHED; raise the limit of the account/],
  ['accounts in offline mode', 'SET GLOBAL offline_mode = ON', 'SET GLOBAL offline_mode = OFF', {},
    /: ER_SERVER_OFFLINE_MODE; SET PERSIST offline_mode = OFF$/],
];

for (const [what, begin, end, changes, line] of REFUSALS) {
  test(`the start and doctor have one remedy when MySQL does not accept ${what}`, async () => {
    await query(begin);
    try {
      const first = await cipherOrLine(changes);
      assert.match(what.startsWith('a second') ? await cipherOrLine(changes) : first, line);
      assert.match(await doctorLine(changes), line);
    } finally {
      await query(end);
    }
  });
}

test('serve connects by DB_TLS, and prints the line when it cannot', async () => {
  const { database } = server.settings;
  const variables = variablesFor(database!, { DB_SOCKET: '', DB_HOST: '127.0.0.1', PORT: '0',
    DB_PORT: String(port), DB_USER: 'encrypted', DB_PASSWORD: PASSWORD });
  const upToDate = await runCommand(['migrate'],
    { ...variables, DB_TLS: 'verify-ca', DB_TLS_CA: caFile() });
  assert.equal([upToDate.status, upToDate.out], [0, 'the database is up to date\n']);
  const refused = await runCommand(['serve'],
    { ...variables, DB_HOST: 'localhost', DB_TLS_CA: caFile() });
  assert.is(refused.status, 1);
  assert.match(refused.err, /^otpd: cannot connect .* TLS_NAME_MISMATCH; [^\n]*verify-ca[^\n]*\n$/);
});

test('an unencrypted connection that leaves the machine is named by serve and doctor', async () => {
  // The address 0.0.0.0 reaches this machine, and is not a loopback address.
  const variables = variablesFor(server.settings.database!, { DB_SOCKET: '', DB_HOST: '0.0.0.0',
    DB_PORT: String(port), DB_USER: 'encrypted', DB_PASSWORD: PASSWORD, PORT: '0' });
  const line = 'the connection to DB_HOST 0.0.0.0 is not encrypted (DB_TLS=off)';
  const { status, err } = await runCommand(['serve'], variables);
  assert.is(status, 1);
  assert.equal(err.split('\n').filter((text) => text.includes(line)).length, 1);
  const faults = async (more: object): Promise<string> => {
    const { findings } = objectOf(await runCommand(['doctor'], { ...variables, ...more }));
    return (findings as Finding[]).filter(({ level }) => level === 'fault')
      .map(({ check, found, remedy }) => `${check}: ${found}; ${remedy}`).join('\n');
  };
  const clear = await faults({ DB_USER: 'app' });
  assert.match(clear, `transport: ${line}`);
  assert.match(clear, /; set DB_TLS=verify-full/);
  assert.not.match(await faults({ DB_TLS: 'require' }), /transport|connection/);
});

test.run();
