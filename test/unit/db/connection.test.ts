/** What a connection says of a server that is not MySQL, or that refuses the login. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDatabase } from '../../../src/app/cli/doctor/check-database.ts';
import { messageOf } from '../../../src/app/output.ts';
import { openConnection } from '../../../src/db/connection.ts';
import type { DatabaseSettings } from '../../../src/db/connection.ts';
import { Unavailable } from '../../../src/db/errors.ts';
import { ConnectionPool } from '../../../src/db/pool.ts';
import { settingsFor } from '../../harness/database.ts';
import { startStandIn } from '../../harness/stand-in.ts';
import { errorOf } from '../../harness/waiting.ts';

function settingsOf(port: number, more: Partial<DatabaseSettings> = {}): DatabaseSettings {
  return { ...settingsFor('otpd', '/nowhere'), socketPath: null, host: '127.0.0.1', port,
    user: 'otpd', password: 'hush-hush', ...more };
}

/** The line of the start, and that of doctor, for one server. */
async function linesOf(settings: DatabaseSettings): Promise<readonly [string, string]> {
  const error = await errorOf(openConnection(settings));
  assert.instance(error, Unavailable);
  const pool = new ConnectionPool(() => openConnection(settings), 1);
  const findings = await checkDatabase({
    settings, pool, connections: 1, workers: 1, readHostClock: () => 0,
  });
  pool.close();
  assert.is(findings.length, 1);
  const { level, check, found, remedy } = findings[0]!;
  return [messageOf(error), `${level} ${check}: ${found}; ${remedy}`];
}

/** [version in the greeting, how the line begins] */
const PRODUCTS: readonly [string, string][] = [
  ['5.5.5-10.11.6-MariaDB', 'the server is MariaDB 10.11.6-MariaDB, not MySQL'],
  ['11.8.3-MariaDB-ubu2404', 'the server is MariaDB 11.8.3-MariaDB-ubu2404, not MySQL'],
  ['8.0.11-TiDB-v8.5.1', 'the server is TiDB 8.0.11-TiDB-v8.5.1, not MySQL'],
  ['5.7.25-OceanBase-v4.2.1', 'the server is OceanBase 5.7.25-OceanBase-v4.2.1, not MySQL'],
  ['8.0.30-Vitess', 'the server is Vitess 8.0.30-Vitess, not MySQL'],
  ['8.0.31-Dolt', 'the server is Dolt 8.0.31-Dolt, not MySQL'],
];

for (const [version, line] of PRODUCTS) {
  test(`a server that greets as ${version} is refused by name before the login`, async () => {
    const server = await startStandIn({ version });
    const [start, doctor] = await linesOf(settingsOf(server.port));
    assert.is(start, `${line}; otpd needs MySQL 8.0.19 or later; use MySQL 8.4 or later`);
    assert.is(doctor, `fault version: ${start}`);
    assert.is(server.received().length, 0);
    await server.close();
  });
}

test('a build of MySQL is not refused by its name, nor a proxy by its version', async () => {
  for (const version of ['8.0.45-36', '8.0.mysql_aurora.3.08.0', '5.5.30', '9.7.4-commercial']) {
    const server = await startStandIn({ version });
    const [start] = await linesOf(settingsOf(server.port));
    assert.match(start, /^cannot connect to the database: ER_ACCESS_DENIED_ERROR; /);
    await server.close();
  }
});

/** [error of the login, code, remedy] */
const LOGIN_ERRORS: readonly [number, string, RegExp][] = [
  [1045, 'ER_ACCESS_DENIED_ERROR', /^check DB_USER and DB_PASSWORD.*requires TLS needs DB_TLS$/],
  [1040, 'ER_CON_COUNT_ERROR', /^raise max_connections, or lower DB_CONNECTIONS/],
  [1226, 'ER_USER_LIMIT_REACHED', /MAX_USER_CONNECTIONS/],
  [1203, 'ER_TOO_MANY_USER_CONNECTIONS', /max_user_connections/],
  [1044, 'ER_DBACCESS_DENIED_ERROR', /^grant the account .* DB_NAME$/],
  [1049, 'ER_BAD_DB_ERROR', /^run: npm run migrate \(in production: node dist/],
  [1251, 'ER_NOT_SUPPORTED_AUTH_MODE', /caching_sha2_password/],
  [1524, 'ER_PLUGIN_IS_NOT_LOADED', /caching_sha2_password/],
  [1820, 'ER_MUST_CHANGE_PASSWORD', /^set a password/],
  [1862, 'ER_MUST_CHANGE_PASSWORD_LOGIN', /^set a password/],
  [3118, 'ER_ACCOUNT_HAS_BEEN_LOCKED', /ACCOUNT UNLOCK$/],
  [3955, 'ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK', /ACCOUNT UNLOCK$/],
  [3159, 'ER_SECURE_TRANSPORT_REQUIRED', /set DB_TLS=verify-full .*DB_TLS=require$/],
  [3032, 'ER_SERVER_OFFLINE_MODE', /offline_mode = OFF$/],
  [1053, 'ER_SERVER_SHUTDOWN', /^wait until MySQL has started/],
];

for (const [loginError, code, remedy] of LOGIN_ERRORS) {
  test(`a login refused with ${code} has its own remedy`, async () => {
    const server = await startStandIn({ version: '8.4.6', loginError });
    const [start, doctor] = await linesOf(settingsOf(server.port));
    const words = `cannot connect to the database: ${code}; `;
    assert.is(start.slice(0, words.length), words);
    assert.match(start.slice(words.length), remedy);
    assert.is(doctor, `fault connection: ${start}`);
    assert.not.match(start, /hush/);
    await server.close();
  });
}

test('a host that is refused before the greeting has its own remedy', async () => {
  for (const [refusal, remedy] of [[1129, /host_cache/], [1130, /^create the acc/]] as const) {
    const server = await startStandIn({ version: '', refusal });
    const [start, doctor] = await linesOf(settingsOf(server.port));
    assert.match(start.split('; ').slice(1).join('; '), remedy);
    assert.is(doctor, `fault connection: ${start}`);
    await server.close();
  }
});

test('each failure to reach the server has its own remedy', async () => {
  const server = await startStandIn({ version: '8.4.6' });
  assert.match((await linesOf(settingsOf(server.port, { tls: 'require' })))[0],
    /: HANDSHAKE_NO_SSL_SUPPORT; the server has no certificate: .*DB_TLS=off/);
  await server.close();
  assert.match((await linesOf(settingsOf(server.port)))[0],
    /: ECONNREFUSED; check that MySQL 8\.0\.19 or later answers at DB_HOST and DB_PORT$/);
  assert.match((await linesOf(settingsOf(0, { host: null, socketPath: '/nowhere' })))[0],
    /: ENOENT; check that MySQL 8\.0\.19 or later answers at the socket DB_SOCKET$/);
  assert.match((await linesOf(settingsOf(3306, { host: 'database.invalid' })))[0],
    /: (ENOTFOUND|EAI_AGAIN); check the name in DB_HOST, and the name server of this machine$/);
  assert.match((await linesOf(settingsOf(1, { tls: 'verify-ca', tlsCaFile: '/no.pem' })))[0],
    /^DB_TLS_CA cannot be read \(ENOENT\): \/no\.pem; restore the file/);
});

test.run();
