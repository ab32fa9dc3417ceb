/** Server starts that are aborted or fail: their errors, and the files they leave. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MysqlServerError } from '../../tools/mysql/error.ts';
import { processesWithArguments } from '../../tools/mysql/processes.ts';
import { startMysqlServer } from '../../tools/mysql/server.ts';
import { withFolder } from '../harness/run.ts';
import { errorOf, eventually } from '../harness/waiting.ts';
import { query, realOptions, withServer, writeScript } from './fixture.ts';

test('an abort during the initialisation ends mysqld and leaves no data', async () => {
  await withFolder(async (folder) => {
    const abort = new AbortController();
    const start = errorOf(startMysqlServer({ ...realOptions(folder), signal: abort.signal }));
    const partial = join(folder, 'data.partial');
    const initialising = () => processesWithArguments([`--datadir=${partial}`]);
    await eventually('mysqld initialises', async () => (await initialising()).length > 0);
    abort.abort(new Error('enough'));
    assert.is((await start).message, 'enough');
    assert.equal(await initialising(), []);
    assert.not((await readdir(folder)).includes('data'));
  });
});

test('an abort during the start ends a mysqld that does not listen', async () => {
  await withFolder(async (folder) => {
    const program = join(folder, 'bin', 'mysqld');
    await writeScript(program, [
      'case "$*" in *--version*) echo "mysqld  Ver 8.4.6 for Linux on x86_64"; exit;; esac',
      'exec sleep 600',
    ]);
    await mkdir(join(folder, 'data'));
    const abort = new AbortController();
    const options = { ...realOptions(folder), mysqld: program, signal: abort.signal };
    const start = errorOf(startMysqlServer(options));
    await eventually('it started', async () => (await readdir(folder)).includes('mysqld.log'));
    abort.abort(new Error('enough'));
    assert.is((await start).message, 'enough');
    await writeScript(program, ['echo "Ver 8.4.6"; echo "no such library"; exit 1']);
    const again = { ...options, signal: new AbortController().signal };
    const failed = await errorOf(startMysqlServer(again));
    assert.match(failed.message, 'no such library');
  });
});

test('a failed initialisation shows the log of mysqld, and leaves no incomplete data', async () => {
  await withFolder(async (folder) => {
    const mysqld = join(folder, 'bin', 'mysqld');
    await writeScript(mysqld, [
      'case "$*" in *--version*) echo "mysqld  Ver 8.4.6 for Linux on x86_64"; exit;; esac',
      `mkdir "${folder}/data.partial"; echo "[ERROR] no room left"; exit 1`,
    ]);
    const error = await errorOf(startMysqlServer({ ...realOptions(folder), mysqld }));
    assert.instance(error, MysqlServerError);
    assert.match(error.message, /could not create its data[^]*no room left/);
    assert.not((await readdir(folder)).some((name) => name.startsWith('data')));
    // The folder is released: a start with a good mysqld succeeds.
    await withServer(folder, (server) => query(server, 'SELECT 1'));
  });
});

test('a folder that cannot be created is one error', async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, 'file'), '');
    const error = await errorOf(startMysqlServer(realOptions(join(folder, 'file', 'x'))));
    assert.instance(error, MysqlServerError);
    assert.match(error.message, 'ENOTDIR');
  });
});

test.run();
