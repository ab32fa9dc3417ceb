/** kill -9 of mysqld and of a service under load: an acknowledged write exists exactly once. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { startServiceProcess } from '../harness/processes.ts';
import type { ServiceProcess } from '../harness/processes.ts';
import { newSecretsText } from '../harness/service.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';
import { createFleet, decided, fresh, newEndUser } from './load.ts';
import type { EndUser, Fleet } from './load.ts';
import { eventually, promptly } from '../harness/waiting.ts';

const CLIENTS = 12;

/** A new user who requests a code and redeems it; null: no response arrived. */
type Visit = {
  endUser: EndUser;
  requestKey: string;
  verifyKey: string;
  requested: Reply | null;
  code: string | null;
  verified: Reply | null;
};

let server: DurableServer;
let services: ServiceProcess[];
let fleet: Fleet;
const secrets = newSecretsText();

test.before(async () => {
  server = await startDurableServer();
  services = [await start(), await start()];
  fleet = createFleet(server.database, services);
});
test.after(async () => {
  closeClient();
  await Promise.all(services.map((service) => service.stop()));
  await server.stop();
});

function start(): Promise<ServiceProcess> {
  const policy = '{"default":{"device_days":30}}';
  return startServiceProcess({ settings: server.settings, secrets, policy, connectionsMax: 8 });
}

async function answerTo(work: () => Promise<Reply>): Promise<Reply | null> {
  const result = await promptly(() => work().catch(() => null));
  assert.ok(result === null || [200, 201, 503].includes(result.status), `${result?.status}`);
  return result;
}

/** Clients that make one visit after another until `stop`. */
function startLoad(): { visits: Visit[]; stop: () => Promise<void> } {
  const visits: Visit[] = [];
  let isOver = false;
  const client = async (): Promise<void> => {
    while (!isOver) {
      const visit: Visit = { endUser: newEndUser(), requestKey: fresh('k'), verifyKey: fresh('v'),
        requested: null, code: null, verified: null };
      visits.push(visit);
      visit.requested = await answerTo(() => fleet.request(visit.endUser, visit.requestKey));
      if (visit.requested?.status !== 201) continue;
      const { endUser, requested, verifyKey } = visit;
      visit.code = (await fleet.messageOf(requested.body.otp_id)).code;
      visit.verified = await answerTo(() => fleet.verify(endUser, visit.code!, verifyKey));
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, client));
  return { visits, stop: async () => { isOver = true; await clients; } };
}

const answered = (visits: Visit[]): number =>
  visits.filter(({ verified }) => verified?.status === 200).length;

/** Compares every visit with its responses, and repeats the requests that got none. */
async function settleAll(visits: Visit[]): Promise<void> {
  for (const { endUser, requestKey, verifyKey, requested, code, verified } of visits) {
    const again = await decided(() => fleet.request(endUser, requestKey));
    assert.is(again.status, 201);
    if (requested?.status === 201) {
      assert.is(again.text, requested.text, 'an acknowledged 201 is replayed afterwards');
      assert.is(again.headers['idempotent-replayed'], 'true');
    }
    if (code === null) continue;
    const redeemed = await decided(() => fleet.verify(endUser, code, verifyKey));
    assert.is(redeemed.status, 200);
    const token = redeemed.headers['otp-device'];
    assert.type(token, 'string');
    if (verified?.status === 200) {
      assert.is(redeemed.headers['idempotent-replayed'], 'true');
      assert.is(token, verified.headers['otp-device'], 'a replay carries the token that was sent');
    }
    assert.is((await decided(() => fleet.verify(endUser, code))).text, '{"error":"code_used"}');
  }
  await assertAccountsAgree(visitsBefore);
}

/** One row, one point of the address and one stored response for each code. */
async function assertAccountsAgree(codes: number): Promise<void> {
  const [row] = await server.database.query(`SELECT
    (SELECT COALESCE(SUM(points), 0) FROM ip_rate_limits) AS addresses,
    (SELECT COUNT(*) FROM otps) AS codes,
    (SELECT COUNT(key_digest) FROM otps) AS answers`);
  assert.equal(Object.values(row!).map(Number), Array.from({ length: 3 }, () => codes));
}

let visitsBefore = 0;

for (const way of ['killed', 'stopped'] as const) {
  test(`no response is lost when mysqld is ${way} under load, and the rest can be repeated`,
    async () => {
      const load = startLoad();
      await eventually('the load runs', () => answered(load.visits) > 60);
      await (way === 'killed' ? server.kill() : server.shutDown());
      const atEnd = load.visits.length;
      await eventually('a client gets 503', () => load.visits.some(({ requested }) =>
        requested?.status === 503));
      await server.start();
      const back = answered(load.visits);
      await eventually('the service recovers without a restart', () =>
        answered(load.visits) > back + 60);
      await load.stop();
      assert.ok(load.visits.length > atEnd);
      visitsBefore += load.visits.length;
      await settleAll(load.visits);
    });
}

test('a service that is killed under load leaves no partial effect, and the other continues',
  async () => {
    await assertAccountsAgree(visitsBefore);
    const load = startLoad();
    await eventually('the load runs', () => answered(load.visits) > 60);
    await services[1]!.kill();
    const [row] = await server.database.query(`SELECT
      (SELECT SUM(points) FROM ip_rate_limits) = (SELECT COUNT(*) FROM otps)
      AND (SELECT COUNT(*) = COUNT(key_digest) FROM otps) AS agree`);
    assert.is(row?.agree, 1);
    services[1] = await start();
    const back = answered(load.visits);
    await eventually('both serve again', () => answered(load.visits) > back + 60);
    await load.stop();
    const [before] = await server.database.query('SELECT COUNT(*) AS n FROM otps');
    assert.ok(Number(before?.n) <= visitsBefore + load.visits.length);
    for (const { endUser, requestKey } of load.visits) {
      const again = await decided(() => fleet.request(endUser, requestKey));
      assert.is(again.status, 201, 'a request without a response can be repeated');
    }
    await assertAccountsAgree(visitsBefore + load.visits.length);
  });

test.run();
