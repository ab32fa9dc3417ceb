/** Starts of the private server that are aborted or fail: what is said, and what is left. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startLocalServer } from '../../src/db/local/launch.ts';
import { LocalServerError } from '../../src/db/local/local-server-error.ts';
import { processesWithArguments } from '../../src/db/local/running-process.ts';
import {
  failureOf, query, realOptions, until, withFolder, withServer, writeScript,
} from './local-fixture.ts';

test('an abort while initialising ends mysqld and leaves nothing trusted', async () => {
  await withFolder(async (folder) => {
    const abort = new AbortController();
    const start = failureOf(startLocalServer({ ...realOptions(folder), signal: abort.signal }));
    const partial = join(folder, 'data.partial');
    const initialising = () => processesWithArguments([`--datadir=${partial}`]);
    await until('mysqld initialises', async () => (await initialising()).length > 0);
    abort.abort(new Error('enough'));
    assert.is((await start).message, 'enough');
    assert.equal(await initialising(), []);
    assert.not((await readdir(folder)).includes('data'));
  });
});

test('an abort while mysqld starts ends it; one that does not listen is killed', async () => {
  await withFolder(async (folder) => {
    const program = join(folder, 'bin', 'mysqld');
    await writeScript(program, [
      'case "$*" in *--version*) echo "mysqld  Ver 8.4.6 for Linux on x86_64"; exit;; esac',
      'exec sleep 600',
    ]);
    await mkdir(join(folder, 'data'));
    const abort = new AbortController();
    const options = { ...realOptions(folder), mysqld: program, signal: abort.signal };
    const start = failureOf(startLocalServer(options));
    await until('it started', async () => (await readdir(folder)).includes('mysqld.log'));
    abort.abort(new Error('enough'));
    assert.is((await start).message, 'enough');
    await writeScript(program, ['echo "Ver 8.4.6"; echo "no such library"; exit 1']);
    const again = { ...options, signal: new AbortController().signal };
    const failed = await failureOf(startLocalServer(again));
    assert.match(failed.message, 'no such library');
  });
});

test('a mysqld that cannot make its data shows why, and nothing half-made stays', async () => {
  await withFolder(async (folder) => {
    const mysqld = join(folder, 'bin', 'mysqld');
    await writeScript(mysqld, [
      'case "$*" in *--version*) echo "mysqld  Ver 8.4.6 for Linux on x86_64"; exit;; esac',
      `mkdir "${folder}/data.partial"; echo "[ERROR] no room left"; exit 1`,
    ]);
    const error = await failureOf(startLocalServer({ ...realOptions(folder), mysqld }));
    assert.instance(error, LocalServerError);
    assert.match(error.message, /could not create its data[^]*no room left/);
    assert.not((await readdir(folder)).some((name) => name.startsWith('data')));
    // The folder is free again: the same start with a good mysqld works.
    await withServer(folder, (server) => query(server, 'SELECT 1'));
  });
});

test('a folder that cannot be made is one clear error', async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, 'file'), '');
    const error = await failureOf(startLocalServer(realOptions(join(folder, 'file', 'x'))));
    assert.instance(error, LocalServerError);
    assert.match(error.message, 'ENOTDIR');
  });
});

test.run();
