/**
 * MySQL servers whose global variables restrict or change every new connection: otpd migrates,
 * answers and cleans up as on any other server.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDatabase } from '../../src/app/cli/doctor/check-database.ts';
import type { Finding } from '../../src/app/output.ts';
import { readHostClock } from '../../src/app/log/log.ts';
import { DatabaseCheck } from '../../src/db/checks/health.ts';
import { openConnection } from '../../src/db/connection.ts';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { objectOf, runCommand, variablesFor } from '../harness/command.ts';
import { runStatement } from '../harness/database.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { CONNECTIONS_MAX, startPlainServer } from './plain-server.ts';
import type { Fixture, PlainServer } from './plain-server.ts';

/** Global variables, each with a value that a connection without set-up gets. */
const HOSTILE: readonly [name: string, value: string][] = [
  ['sql_safe_updates', '1'],
  ['sql_select_limit', '0'],
  ['max_join_size', '1'],
  ['sql_big_selects', '0'],
  ['max_execution_time', '1'],
  ['transaction_read_only', '1'],
  ['transaction_isolation', "'SERIALIZABLE'"],
  ['autocommit', '0'],
  ['completion_type', "'RELEASE'"],
  ['completion_type', "'CHAIN'"],
  ['innodb_lock_wait_timeout', '3'],
  ['lock_wait_timeout', '3'],
  ['unique_checks', '0'],
  ['foreign_key_checks', '0'],
  ['sql_auto_is_null', '1'],
  ['sql_buffer_result', '1'],
  ['max_sort_length', '4'],
  ['sort_buffer_size', '32768'],
  ['range_optimizer_max_mem_size', '1'],
  ['parser_max_mem_size', '10000000'],
  ['optimizer_switch', "'mrr=off,derived_merge=off,index_merge=off,hash_join=off,semijoin=off'"],
  ['optimizer_search_depth', '1'],
  ['eq_range_index_dive_limit', '1'],
  ['big_tables', '1'],
  ['tmp_table_size', '1024'],
  ['max_error_count', '0'],
  ['sql_require_primary_key', '1'],
  ['innodb_strict_mode', '0'],
  ['default_storage_engine', "'MEMORY'"],
  ['default_collation_for_utf8mb4', "'utf8mb4_general_ci'"],
  ['auto_increment_increment', '65535'],
  ['div_precision_increment', '0'],
  ['cte_max_recursion_depth', '0'],
  ['group_concat_max_len', '4'],
  ['time_zone', "'+05:30'"],
  ['session_track_gtids', "'ALL_GTIDS'"],
  ['session_track_transaction_info', "'CHARACTERISTICS'"],
  ['session_track_system_variables', "'*'"],
  ['wait_timeout', '1'],
  ['net_read_timeout', '1'],
];

/** Variables of a session only, which `init_connect` sets. */
const BY_INIT_CONNECT: readonly [name: string, value: string][] = [
  ['timestamp', '1000000000'],
  ['use_secondary_engine', "'FORCED'"],
  ['last_insert_id', '7'],
];

let server: PlainServer;

test.before(async () => {
  server = await startPlainServer();
});
test.after(async () => {
  closeClient();
  await server.stop();
});

/** The value of a variable in a connection of the plain account that is not set up. */
async function bareValue(name: string): Promise<string> {
  const settings = { ...server.newSettings(), database: null };
  const bare = await openConnection(settings, `SET @found = @@${name}, NAMES utf8mb4`);
  const [row] = await bare.run('test', 'SELECT @found AS found LIMIT 1', []);
  bare.destroy();
  return String(row?.found);
}

const USERS_COUNT = 40;

/** As many bytes as the contract allows, so that a batch has its greatest length. */
const LONG = '\u{1f511}'.repeat(250);

let rounds = 0;

function call(service: TestService, path: string, user: string, more: object = {}): Promise<Reply> {
  rounds += 1;
  const address = `10.${rounds >> 16}.${(rounds >> 8) & 255}.${rounds & 255}`;
  const body = { user_id: user, purpose: 'login', ...more };
  return post({ port: service.port, path, address, key: `k${rounds}`, body });
}

async function checkOperations({ service }: Fixture): Promise<void> {
  const users = Array.from({ length: USERS_COUNT }, (_, index) => `${LONG}${index}`);
  const forAll = async (work: (user: string) => Promise<Reply>, status: number): Promise<void> => {
    const replies = await Promise.all(users.map(work));
    assert.equal(replies.map((reply) => `${reply.status} ${status === 200 ? '' : reply.text}`)
      .filter((text) => !text.startsWith(`${status} `)), []);
  };
  const codeOf = (user: string): string =>
    service.messages.find(({ userId }) => userId === user)!.code;
  const another = (code: string): string => (code === '000000' ? '000001' : '000000');
  await forAll((user) => call(service, '/otp/request', user), 201);
  await eventually('every message is sent', () =>
    users.every((user) => service.messages.some(({ userId }) => userId === user)));
  await forAll((user) => call(service, '/otp/verify', user, { code: another(codeOf(user)) }), 401);
  await forAll((user) => call(service, '/otp/verify', user, { code: codeOf(user) }), 200);
  await forAll((user) => call(service, '/otp/request', user), 201);
  await forAll((user) => {
    const { otpId } = service.messages.find(({ userId }) => userId === user)!;
    return send({ port: service.port, path: `/otp/${otpId}`, method: 'GET' });
  }, 200);
}

async function checkHealth({ settings, pool }: Fixture): Promise<void> {
  await eventually('the outbox is empty', async () =>
    (await runStatement(settings, 'SELECT 1 FROM outbox LIMIT 1')).length === 0);
  // On a busy machine a check may not end in its time.
  await eventually('the check of readiness finds nothing', async () =>
    (await new DatabaseCheck(pool).errors()).length === 0);
  const target = { settings, pool, connections: CONNECTIONS_MAX, workers: 1, readHostClock };
  const problems = (await checkDatabase(target)).filter(({ level, check }) =>
    level === 'fault' || (level === 'warn' && check === 'clock'));
  assert.equal(problems.filter(({ check }) => check !== 'durability'), []);
}

async function checkService(): Promise<void> {
  await server.withService(async (fixture) => {
    await checkOperations(fixture);
    await checkHealth(fixture);
  });
}

test('a server with its defaults is served', checkService);

for (const [name, value] of HOSTILE) {
  test(`a server with ${name} = ${value} is served as any other`, async () => {
    const before = await bareValue(name);
    await server.asRoot(`SET GLOBAL ${name} = ${value}`);
    try {
      assert.is.not(`${name} ${await bareValue(name)}`, `${name} ${before}`);
      await checkService();
    } finally {
      await server.asRoot(`SET GLOBAL ${name} = DEFAULT`);
    }
  });
}

for (const [name, value] of BY_INIT_CONNECT) {
  test(`a server whose init_connect sets ${name} to ${value} is served`, async () => {
    await server.asRoot(`SET GLOBAL init_connect = "SET ${name} = ${value}"`);
    try {
      assert.match(await bareValue(name), new RegExp(`^${value.replaceAll("'", '')}`));
      await checkService();
    } finally {
      await server.asRoot("SET GLOBAL init_connect = ''");
    }
  });
}

test('the commands run on a server that restricts every connection', async () => {
  const restrictions = { sql_select_limit: 0, max_join_size: 1, sql_big_selects: 0,
    max_execution_time: 1, sql_safe_updates: 1 };
  for (const [name, value] of Object.entries(restrictions)) {
    await server.asRoot(`SET GLOBAL ${name} = ${value}`);
  }
  try {
    const { database, socketPath, user } = server.newSettings();
    const variables = variablesFor(database!, { DB_SOCKET: socketPath!, DB_USER: user });
    const migrated = await runCommand(['migrate'], variables);
    assert.equal([migrated.status, migrated.err], [0, '']);
    const otpd = await startOtpd(variables);
    await eventually('otpd is ready', async () =>
      (await fetch(`http://127.0.0.1:${otpd.adminPort}/readyz`)).status === 200);
    const body = { user_id: 'U1', purpose: 'login' };
    const issued = await post({ port: otpd.port, path: '/otp/request', key: 'k', body });
    assert.is(issued.status, 201);
    assert.is((await runCommand(['show', 'U1'], variables)).status, 0);
    const { findings } = objectOf(await runCommand(['doctor'], variables));
    const faults = (findings as Finding[]).filter(({ level }) => level === 'fault');
    assert.equal(faults.filter(({ check }) => check !== 'durability'), []);
    otpd.stop();
    assert.is(await otpd.ended, 0);
  } finally {
    for (const name of Object.keys(restrictions)) {
      await server.asRoot(`SET GLOBAL ${name} = DEFAULT`);
    }
  }
});

test.run();
