/**
 * Races of API clients over two processes, with exact counts. OTPD_TEST_RACES sets the number of
 * runs.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import { startTestService } from '../harness/service.ts';
import { racesOf } from './race.ts';
import { atOnce, decided, fresh, freshAddress, startFleet, countByKind } from './load.ts';
import type { Fleet } from './load.ts';

/**
 * A run costs a third of a second. The same rules run more often without API clients in
 * races.test.ts.
 */
const race = racesOf(1 / 4);

const NAMES = ['app1', 'app2'];
const { apiKeys, headersOf } = newApiClients(NAMES);

let fleet: Fleet;

test.before(async () => { fleet = await startFleet(2, 32, apiKeys); });
test.after(async () => {
  closeClient();
  await fleet.stop();
});

type Ask = Readonly<{ user?: string; address?: string; apiClient: string; key?: string }>;

let turn = 0;

function request({ user = fresh('u'), address, apiClient, key = fresh('k') }: Ask): Promise<Reply> {
  turn += 1;
  const { port } = fleet.services[turn % fleet.services.length]!;
  const headers = { ...headersOf(apiClient),
    ...(address === undefined ? {} : { 'X-Client-IP': address }) };
  const body = { user_id: user, purpose: 'login' };
  // The address of the connection does not count: an API client names the address of its user.
  return decided(() =>
    post({ port, path: '/otp/request', body, key, address: '10.255.255.255', headers }));
}

/** Alternates so that each API client calls both processes. */
function apiClientOf(index: number): string {
  return NAMES[Math.floor(index / 2) % 2]!;
}

race('60 simultaneous users at one address, named by two API clients, get 8 codes', async () => {
  const address = freshAddress();
  const forms = [address, `::ffff:${address}`];
  const replies = await atOnce(60, (index) =>
    request({ address: forms[index % 3 === 0 ? 1 : 0]!, apiClient: apiClientOf(index) }));
  assert.equal(countByKind(replies), { 201: 8, '429 rate_limit_exceeded': 52 });
});

race('60 simultaneous users without an address get 60 codes, and none is stored', async () => {
  const count = async (): Promise<unknown> =>
    (await fleet.database.query('SELECT COUNT(*) AS n FROM ip_rate_limits'))[0]?.n;
  const before = await count();
  const replies = await atOnce(60, (index) => request({ apiClient: apiClientOf(index) }));
  assert.equal(countByKind(replies), { 201: 60 });
  assert.is(await count(), before);
});

race('two named addresses get 8 codes each, and requests without one all get a code', async () => {
  const addresses = [freshAddress(), freshAddress(), undefined];
  const replies = await atOnce(60, (index) => {
    const address = addresses[index % 3];
    const named = address === undefined ? {} : { address };
    return request({ apiClient: apiClientOf(index), ...named });
  });
  assert.equal(countByKind(replies), { 201: 36, '429 rate_limit_exceeded': 24 });
});

race('60 simultaneous requests of one user through two API clients get 3 codes',
  async () => {
    const user = fresh('u');
    const replies = await atOnce(60, (index) => request({ user, apiClient: apiClientOf(index),
      ...(index % 3 === 0 ? {} : { address: freshAddress() }) }));
    assert.equal(countByKind(replies), { 201: 3, '429 rate_limit_exceeded': 57 });
  });

race('25 simultaneous repeats of one key by each of two API clients get two codes', async () => {
  const user = fresh('u');
  const key = fresh('k');
  const replies = await atOnce(50, async (index) => {
    const apiClient = apiClientOf(index);
    return { apiClient, reply: await request({ user, apiClient, key }) };
  });
  assert.equal(countByKind(replies.map(({ reply }) => reply)), { 201: 50 });
  const idsOf = (name: string): Set<unknown> => new Set(replies
    .filter(({ apiClient }) => apiClient === name).map(({ reply }) => reply.body.otp_id));
  assert.equal([idsOf('app1').size, idsOf('app2').size], [1, 1]);
  assert.not.equal([...idsOf('app1')], [...idsOf('app2')]);
});

/** A connection that records its statements. */
function recording(connection: Connection, log: string[]): Connection {
  return {
    ...connection,
    run: (name, sql, values) => {
      log.push(sql);
      return connection.run(name, sql, values);
    },
    runAll: (name, statements) => {
      log.push(...statements.map(({ sql }) => sql));
      return connection.runAll(name, statements);
    },
  };
}

test('a request without a client IP uses no table of client IPs', async () => {
  const database = await createTestDatabase();
  const statements: string[] = [];
  const open = async (): Promise<Connection> =>
    recording(await openConnection(database.settings), statements);
  const pool = new ConnectionPool(open, 4);
  const service = await startTestService({ pool, apiKeys });
  const replies: Reply[] = [];
  for (const key of ['a', 'b', 'c', 'd', 'a', 'd']) {
    const body = { user_id: 'U1', purpose: 'login' };
    replies.push(await post({ port: service.port, path: '/otp/request', body, key,
      headers: headersOf('app1') }));
  }
  await service.close();
  pool.close();
  database.close();
  assert.equal(replies.map(({ status }) => status), [201, 201, 201, 429, 201, 429]);
  assert.ok(statements.some((sql) => sql.includes('otps')));
  // A sweep step reads every table and may come with any request.
  const ofRequests = statements.filter((sql) => !sql.includes('seconds_expired'));
  assert.equal(ofRequests.filter((sql) => /ip_rate/.test(sql)), []);
});

test.run();
