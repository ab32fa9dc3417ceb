/** A server with a real mysqld: the first start, later starts, and crashes. */
import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MysqlServerError } from '../../tools/mysql/error.ts';
import { processesWithArguments, startMark } from '../../tools/mysql/processes.ts';
import { startMysqlServer } from '../../tools/mysql/server.ts';
import type { MysqlServer } from '../../tools/mysql/server.ts';
import { SOCKET_PATH_MAX_BYTES } from '../../tools/mysql/socket-path.ts';
import { withFolder } from '../harness/run.ts';
import { errorOf } from '../harness/waiting.ts';
import { query, realOptions, startOther, withServer } from './fixture.ts';

async function store(server: MysqlServer): Promise<void> {
  await query(server, 'CREATE DATABASE kept');
  await query(server, 'CREATE TABLE kept.rows_of_a (id INT PRIMARY KEY)');
  await query(server, 'INSERT INTO kept.rows_of_a VALUES (42)');
}

async function assertKept(server: MysqlServer): Promise<void> {
  assert.equal(await query(server, 'SELECT id FROM kept.rows_of_a'), [{ id: 42 }]);
}

function serving(folder: string): Promise<number[]> {
  return processesWithArguments([`--datadir=${join(folder, 'data')}`]);
}

test('the data survives a stop, a death of mysqld, and a kill -9 of its owner', async () => {
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

    const dying = await startMysqlServer(realOptions(folder));
    await assertKept(dying);
    process.kill(dying.processId, 'SIGKILL');
    assert.equal(await dying.exited, { wasStopped: false });
    await dying.stop();

    const owner = startOther('server-child.ts', [folder]);
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
  const error = await errorOf(startMysqlServer(realOptions(folder)));
  assert.instance(error, MysqlServerError);
  assert.match(error.message, `process id ${process.pid} runs its MySQL there`);
}

/** The folder of the socket is closed to other users, so the mode of the socket does not count. */
async function assertClosedToOthers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const found = await stat(join(folder, name));
    if (!found.isSocket()) assert.is(found.mode & 0o077, 0, name);
  }
}

test('a stop is idempotent, and is distinguished from a crash', async () => {
  await withFolder(async (folder) => {
    // The incomplete data of a killed start is removed.
    await mkdir(join(folder, 'data.partial', 'mysql'), { recursive: true });
    await writeFile(join(folder, 'data.partial', 'ibdata1'), 'half');
    const server = await startMysqlServer({ ...realOptions(folder), durable: true });
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
  const error = await errorOf(startMysqlServer(realOptions(folder)));
  assert.match(error.message, 'was written by MySQL 99.1.0');
  await writeFile(join(folder, 'mysql-version'), recorded);
}

async function showsLogOfFailedStart(folder: string): Promise<void> {
  await rm(join(folder, 'data', 'mysql.ibd'));
  const error = await errorOf(startMysqlServer(realOptions(folder)));
  assert.instance(error, MysqlServerError);
  assert.match(error.message, 'did not start');
  assert.match(error.message, /\[ERROR\] \[MY-\d+\]/);
  assert.equal(await serving(folder), []);
}

async function assertAnswers(server: MysqlServer): Promise<void> {
  assert.equal(await query(server, 'SELECT 1 AS one'), [{ one: 1 }]);
}

test('a socket whose path is too long gets a short path, which is removed at the end', async () => {
  await withFolder(async (base) => {
    const folder = join(base, 'a'.repeat(SOCKET_PATH_MAX_BYTES));
    const socketPath = await withServer(folder, async (server) => {
      assert.ok(Buffer.byteLength(server.socketPath) <= SOCKET_PATH_MAX_BYTES);
      await assertAnswers(server);
      await query(server, "ALTER USER root@localhost IDENTIFIED BY 'changed'");
      return server.socketPath;
    });
    // A password of root is a clear error, and leaves no mysqld.
    const error = await errorOf(startMysqlServer(realOptions(folder)));
    assert.match(error.message, 'refuses the connection of root (ER_ACCESS_DENIED_ERROR)');
    assert.equal(await serving(folder), []);
    assert.is((await errorOf(stat(dirname(socketPath)))).name, 'Error');
  });
});

test.run();
