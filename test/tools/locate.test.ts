/** The mysqld that is used (MYSQLD, PATH, the usual folders), and those that are refused. */
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MysqlServerError } from '../../tools/mysql/error.ts';
import { locateMysqld } from '../../tools/mysql/locate.ts';
import { prepareSocketPath } from '../../tools/mysql/socket-path.ts';
import { withFolder } from '../harness/run.ts';
import { errorOf } from '../harness/waiting.ts';
import { writeScript } from './fixture.ts';

const NONE = { mysqld: undefined, searchPath: '', usualFolders: [], print: () => {} };

async function stubMysqld(folder: string, version: string): Promise<string> {
  const path = join(folder, 'mysqld');
  await writeScript(path, [`echo "mysqld  Ver ${version} for Linux on x86_64"`]);
  return path;
}

test('PATH is searched before the usual folders, and the first usable mysqld is used', async () => {
  await withFolder(async (folder) => {
    await stubMysqld(join(folder, 'maria'), '10.11.6-MariaDB');
    await stubMysqld(join(folder, 'old'), '5.7.44');
    await stubMysqld(join(folder, 'good'), '8.4.6');
    await stubMysqld(join(folder, 'usual'), '9.1.0');
    const said: string[] = [];
    const names = ['empty', 'maria', 'old', 'good'].map((name) => join(folder, name));
    const search = { ...NONE, usualFolders: [join(folder, 'usual')], print: said.push.bind(said) };
    const found = await locateMysqld({ ...search, searchPath: names.join(':') });
    assert.is(found?.versionText, '8.4.6');
    assert.is(said.length, 2);
    assert.match(said[0] ?? '', /maria\/mysqld, which is MariaDB 10\.11\.6/);
    assert.match(said[1] ?? '', /old\/mysqld, which is MySQL 5\.7\.44/);
    assert.is((await locateMysqld(search))?.versionText, '9.1.0');
  });
});

test('a usual folder may be a pattern, and a program with two names is checked once', async () => {
  await withFolder(async (folder) => {
    await stubMysqld(join(folder, 'mysql@8.4', 'bin'), '10.1.1-MariaDB');
    await symlink('mysql@8.4', join(folder, 'mysql'));
    const said: string[] = [];
    const search = { ...NONE, usualFolders: [join(folder, 'mysql*', 'bin')] };
    assert.is(await locateMysqld({ ...search, print: said.push.bind(said) }), undefined);
    assert.is(said.length, 1);
  });
});

test('no program is run from a relative entry of PATH', async () => {
  await withFolder(async (folder) => {
    await stubMysqld(folder, '8.4.6');
    assert.is(await locateMysqld({ ...NONE, searchPath: ':.:bin' }), undefined);
  });
});

for (const [version, expected] of [
  ['10.11.6-MariaDB', /MYSQLD names .*is MariaDB 10\.11\.6/],
  ['8.0.11', /MYSQLD names .*is MySQL 8\.0\.11; otpd needs 8\.0\.19/],
] as const) {
  test(`a MYSQLD of version ${version} is refused`, async () => {
    await withFolder(async (folder) => {
      const mysqld = await stubMysqld(folder, version);
      const good = join(folder, 'good');
      await stubMysqld(good, '8.4.6');
      const error = await errorOf(locateMysqld({ ...NONE, mysqld, searchPath: good }));
      assert.instance(error, MysqlServerError);
      assert.match(error.message, expected);
      assert.match(error.message, 'DB_SOCKET');
    });
  });
}

test('a MYSQLD that is absent, no program, or silent is refused', async () => {
  await withFolder(async (folder) => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    const silent = join(folder, 'silent');
    await writeScript(silent, ['exit 3']);
    for (const [mysqld, reason] of [
      [join(folder, 'absent'), 'cannot be run (ENOENT)'],
      [file, 'cannot be run (EACCES)'],
      [silent, 'reports no MySQL version'],
    ] as const) {
      assert.match((await errorOf(locateMysqld({ ...NONE, mysqld }))).message, reason);
    }
  });
});

test('a folder for the socket that other users could enter is refused', async () => {
  await withFolder(async (folder) => {
    const deep = join(folder, 'b'.repeat(120));
    const socketPath = await prepareSocketPath(deep, folder);
    const own = join(socketPath, '..');
    assert.is(await prepareSocketPath(deep, folder), socketPath);
    await chmod(own, 0o755);
    assert.match((await errorOf(prepareSocketPath(deep, folder))).message, 'private folder');
    const long = join(folder, 'c'.repeat(120));
    await mkdir(long);
    assert.match((await errorOf(prepareSocketPath(deep, long))).message, 'both too long');
  });
});

test.run();
