/**
 * MySQL cannot write because its disk is full: every response is bounded and true, no acknowledged
 * write is lost, and the service recovers without a restart.
 */
import { execFileSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import type { TestDatabase } from '../harness/database.ts';
import { canMount } from '../harness/namespace.ts';
import { canRun } from '../harness/not-run.ts';
import { startServiceProcess } from '../harness/processes.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { startDurableServer } from './durable-server.ts';
import { startOnSmallDisk } from './small-disk.ts';
import { createFleet, decided, fresh, newEndUser } from './load.ts';
import type { EndUser, Fleet } from './load.ts';

const CLIENTS = 12;
const CONNECTIONS_MAX = 4;

/** How the disk fills up and gets room again. */
type Disk = Readonly<{
  database: TestDatabase;
  fill: () => void;
  makeRoom: () => void | Promise<void>;
  stop: () => Promise<void>;
}>;

/**
 * A limit on the size of files (setrlimit(2), RLIMIT_FSIZE), which needs no privilege: the kernel
 * ends a mysqld that writes beyond it, and `makeRoom` starts mysqld again.
 */
async function startUnderFileLimit(): Promise<Disk> {
  const server = await startDurableServer();
  const { database, stop } = server;
  return {
    database, stop,
    fill: () => {
      execFileSync('prlimit', ['--pid', String(server.processId()), '--fsize=131072:unlimited']);
    },
    makeRoom: async () => {
      await server.exited();
      await server.start();
    },
  };
}

/** A request and its response. */
type Visit = { endUser: EndUser; key: string; reply: Reply };

/** Sends requests until the number of refusals shows that the disk is full. */
async function askUntilRefused(fleet: Fleet, refusals: number): Promise<Visit[]> {
  const visits: Visit[] = [];
  let refused = 0;
  const client = async (): Promise<void> => {
    while (refused < refusals) {
      const endUser = newEndUser();
      const key = fresh('k');
      const reply = await promptly(() => fleet.request(endUser, key));
      assert.ok([201, 503].includes(reply.status), reply.text);
      if (reply.status === 503) {
        assert.match(String(reply.headers['retry-after']), /^[1-9]\d*$/);
        refused += 1;
      }
      visits.push({ endUser, key, reply });
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return visits;
}

/** Acknowledged codes exist, refused requests can be repeated, and nothing exists twice. */
async function settle(fleet: Fleet, visits: readonly Visit[]): Promise<void> {
  for (const { endUser, key, reply } of visits) {
    const again = await decided(() => fleet.request(endUser, key));
    assert.is(again.status, 201);
    if (reply.status === 201) assert.is(again.text, reply.text);
  }
}

function proof(name: string, startDisk: () => Promise<Disk>): void {
  test(name, async () => {
    const disk = await startDisk();
    const { database } = disk;
    const { settings } = database;
    const service = await startServiceProcess({
      settings, secrets: newSecretsText(), connectionsMax: CONNECTIONS_MAX,
    });
    const fleet = createFleet(database, [service]);
    try {
      const early = newEndUser();
      const earlyKey = fresh('k');
      const { body } = await decided(() => fleet.request(early, earlyKey));
      const { code } = await fleet.messageOf(body.otp_id);
      disk.fill();
      const visits = await askUntilRefused(fleet, 3 * CLIENTS);
      const tried = await fleet.verify(early, code);
      assert.ok([200, 503].includes(tried.status), tried.text);
      await disk.makeRoom();
      await eventually('it works again', async () =>
        (await fleet.request(newEndUser())).status === 201);
      await settle(fleet, visits);
      const redeemed = await decided(() => fleet.verify(early, code));
      // A 503 leaves open whether the code was redeemed; a 200 does not.
      assert.ok(redeemed.status === 410 || (tried.status === 503 && redeemed.status === 200));
      // MySQL notices later that a connection is closed.
      await eventually('few connections are open', async () => {
        const [row] = await database.query(`SELECT COUNT(*) AS n FROM
          information_schema.processlist WHERE db = ?`, [String(settings.database)]);
        return Number(row?.n) <= CONNECTIONS_MAX + 1;
      });
    } finally {
      closeClient();
      await service.stop();
      await disk.stop();
    }
  });
}

proof('no response is lost when a file size limit ends mysqld', startUnderFileLimit);

const FULL = 'no response is lost when the file system is full';
if (canRun(FULL, canMount(), 'this machine permits no mounts')) proof(FULL, startOnSmallDisk);

test.run();
