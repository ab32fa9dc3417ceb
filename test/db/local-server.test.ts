/** The private server on a real mysqld: first start, next starts, deaths of every kind. */
import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startLocalServer } from '../../src/db/local/launch.ts';
import type { LocalServer } from '../../src/db/local/launch.ts';
import { LocalServerError } from '../../src/db/local/local-server-error.ts';
import { processesWithArguments, startMark } from '../../src/db/local/running-process.ts';
import { SOCKET_PATH_MAX_BYTES } from '../../src/db/local/socket-path.ts';
import {
  failureOf, query, realOptions, startOther, withFolder, withServer,
} from './local-fixture.ts';

async function store(server: LocalServer): Promise<void> {
  await query(server, 'CREATE DATABASE kept');
  await query(server, 'CREATE TABLE kept.rows_of_a (id INT PRIMARY KEY)');
  await query(server, 'INSERT INTO kept.rows_of_a VALUES (42)');
}

async function assertKept(server: LocalServer): Promise<void> {
  assert.equal(await query(server, 'SELECT id FROM kept.rows_of_a'), [{ id: 42 }]);
}

function serving(folder: string): Promise<number[]> {
  return processesWithArguments([`--datadir=${join(folder, 'data')}`]);
}

test('a folder lives through a stop, a death of mysqld, and a kill -9 of its owner', async () => {
  await withFolder(async (base) => {
    const folder = join(base, '.otpd');
    await withServer(folder, async (server) => {
      assert.match(server.version, /^\d+\.\d+\.\d+/);
      assert.is((await stat(folder)).mode & 0o777, 0o700);
      await store(server);
      await assertSecondRefused(folder);
      await assertClosedToOthers(folder);
    });
    assert.equal(await serving(folder), []);

    const dying = await startLocalServer(realOptions(folder));
    await assertKept(dying);
    process.kill(dying.processId, 'SIGKILL');
    assert.equal(await dying.exited, { wasStopped: false });
    await dying.stop();

    const owner = startOther('local-server-child.ts', [folder]);
    const orphan = Number(await owner.line());
    await owner.kill();
    assert.equal(await serving(folder), [orphan]);
    await withServer(folder, async (server) => {
      await assertKept(server);
      assert.is(await startMark(orphan), undefined);
      assert.equal(await serving(folder), [server.processId]);
    });
  });
});

async function assertSecondRefused(folder: string): Promise<void> {
  const error = await failureOf(startLocalServer(realOptions(folder)));
  assert.instance(error, LocalServerError);
  assert.match(error.message, `process id ${process.pid} runs its MySQL there`);
}

/** Everything but the socket, which is in a closed folder and has no mode of its own. */
async function assertClosedToOthers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const found = await stat(join(folder, name));
    if (!found.isSocket()) assert.is(found.mode & 0o077, 0, name);
  }
}

test('stop is said to have stopped, and stopping again is harmless', async () => {
  await withFolder(async (folder) => {
    // Also: half-made data of a killed start is removed, not used.
    await mkdir(join(folder, 'data.partial', 'mysql'), { recursive: true });
    await writeFile(join(folder, 'data.partial', 'ibdata1'), 'half');
    const server = await startLocalServer({ ...realOptions(folder), durable: true });
    assert.equal(await query(server, durableSettings), [{ log: 1, network: 1, binlog: 0 }]);
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    assert.equal(await server.exited, { wasStopped: true });
    assert.not((await readdir(folder)).includes('data.partial'));
    await refusesNewerData(folder);
    await showsLogOfFailedStart(folder);
  });
});

const durableSettings = `SELECT @@innodb_flush_log_at_trx_commit AS log,
  @@skip_networking AS network, @@log_bin AS binlog`;

async function refusesNewerData(folder: string): Promise<void> {
  const recorded = await readFile(join(folder, 'mysql-version'), 'utf8');
  await writeFile(join(folder, 'mysql-version'), 'Ver 99.1.0\n');
  const error = await failureOf(startLocalServer(realOptions(folder)));
  assert.match(error.message, 'was written by MySQL 99.1.0');
  await writeFile(join(folder, 'mysql-version'), recorded);
}

async function showsLogOfFailedStart(folder: string): Promise<void> {
  await rm(join(folder, 'data', 'mysql.ibd'));
  const error = await failureOf(startLocalServer(realOptions(folder)));
  assert.instance(error, LocalServerError);
  assert.match(error.message, 'did not start');
  assert.match(error.message, /\[ERROR\] \[MY-\d+\]/);
  assert.equal(await serving(folder), []);
}

async function assertAnswers(server: LocalServer): Promise<void> {
  assert.equal(await query(server, 'SELECT 1 AS one'), [{ one: 1 }]);
}

test('a path too long for a socket gets a short one, which is removed at the end', async () => {
  await withFolder(async (base) => {
    const folder = join(base, 'a'.repeat(SOCKET_PATH_MAX_BYTES));
    const socketPath = await withServer(folder, async (server) => {
      assert.ok(Buffer.byteLength(server.socketPath) <= SOCKET_PATH_MAX_BYTES);
      await assertAnswers(server);
      await query(server, "ALTER USER root@localhost IDENTIFIED BY 'changed'");
      return server.socketPath;
    });
    // Whoever sets a password locks otpd out: said plainly, and mysqld does not stay behind.
    const error = await failureOf(startLocalServer(realOptions(folder)));
    assert.match(error.message, 'does not let otpd in (ER_ACCESS_DENIED_ERROR)');
    assert.equal(await serving(folder), []);
    assert.is((await failureOf(stat(dirname(socketPath)))).name, 'Error');
  });
});

test.run();
