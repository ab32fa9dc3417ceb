/** A fetch of MySQL with stubs for apt-get and dpkg: its success and its failures. */
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MysqlServerError } from '../../tools/mysql/error.ts';
import { MYSQL } from '../../tools/mysql/fetch/fetch.ts';
import { obtainMysqld } from '../../tools/mysql/fetch/obtain.ts';
import { startMark } from '../../tools/mysql/processes.ts';
import { withFolder } from '../harness/run.ts';
import { errorOf, eventually } from '../harness/waiting.ts';
import { writeScript } from './fixture.ts';

/** Shell commands of the stub programs; their exit codes decide. */
type Stubs = {
  update?: string;
  uris?: string;
  install?: string;
  unpack?: string;
  osRelease?: string;
};

const URIS = `echo "'http://m.example/m.deb' m.deb 26000000 SHA256:0"`;
const INSTALL = 'echo "dlstatus:1:50.0:half" >&3; echo "dlstatus:1:100.0:all" >&3; : > "$A/m.deb"';
const UNPACK = [
  'T="$3/usr/lib/x86_64-linux-gnu"; mkdir -p "$T" "$3/usr/sbin"',
  'L="$T/ld-linux-x86-64.so.2"',
  `printf '#!/bin/sh\\nshift 2\\nexec "$@"\\n' > "$L"`,
  `printf '#!/bin/sh\\necho "mysqld  Ver 9.7.4-2 for Linux"\\n' > "$3/usr/sbin/mysqld"`,
  'chmod +x "$L" "$3/usr/sbin/mysqld"',
].join('; ');

/** A machine with stub programs, its cache folder and the printed progress. */
async function makeMachine(folder: string, stubs: Stubs = {}) {
  const bin = join(folder, 'bin');
  await writeScript(join(bin, 'apt-get'), [
    `echo "$*" >> "${folder}/apt.log"`,
    `A=$(sed -n 's/^Dir::Cache::Archives "\\(.*\\)";/\\1/p' "$2")`,
    'case "$*" in',
    `*update) ${stubs.update ?? ':'};;`,
    `*--print-uris*) ${stubs.uris ?? URIS};;`,
    `*) ${stubs.install ?? INSTALL};;`,
    'esac',
  ]);
  await writeScript(join(bin, 'dpkg-deb'), [stubs.unpack ?? UNPACK]);
  await writeScript(join(bin, 'dpkg'), ['echo amd64']);
  const etcFolder = join(folder, 'etc');
  const parts = join(etcFolder, 'apt', 'sources.list.d');
  await mkdir(parts, { recursive: true });
  const osRelease = stubs.osRelease ?? 'ID=debian\nVERSION_CODENAME=bookworm\n';
  await writeFile(join(etcFolder, 'os-release'), osRelease);
  const debian = 'Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n';
  await writeFile(join(parts, 'debian.sources'), debian);
  await writeFile(join(parts, 'ubuntu.list'), 'deb http://m.example/ubuntu noble main\n');
  for (const kind of ['debian', 'ubuntu']) {
    await writeFile(join(folder, `${kind}-archive-keyring.gpg`), '');
  }
  const said: string[] = [];
  const cacheFolder = join(folder, 'cache');
  const print = (line: string) => void said.push(line);
  const wanted = { mysqld: undefined, searchPath: bin, cacheFolder, print };
  const machine = { usualFolders: [], etcFolder, keyringFolder: folder };
  const obtain = (signal?: AbortSignal) => obtainMysqld({ ...wanted, signal }, machine);
  const commands = async () => (await readFile(join(folder, 'apt.log'), 'utf8')).trim().split('\n');
  return { obtain, said, cacheFolder, commands };
}

test('a fetch prints its progress, leaves only the complete copy, and happens once', async () => {
  await withFolder(async (folder) => {
    const machine = await makeMachine(folder);
    const mysqld = await machine.obtain();
    assert.is(mysqld.versionText, '9.7.4-2');
    assert.match(mysqld.program, /ld-linux-x86-64\.so\.2$/);
    assert.equal(await readdir(machine.cacheFolder), [MYSQL.copyName]);
    const said = machine.said.join('\n');
    assert.match(said, /lists of http:\/\/m\.example\/debian/);
    assert.match(said, /Fetching mysql-server-core .*26 MB/);
    assert.match(said, /100 % of 26 MB/);
    const before = await machine.commands();
    assert.is((await machine.obtain()).program, mysqld.program);
    assert.equal(await machine.commands(), before);
    assert.not(before.some((line) => /unauthenticated|force|trusted/i.test(line)));
  });
});

test('three fetches at the same time all succeed with one copy', async () => {
  await withFolder(async (folder) => {
    const machine = await makeMachine(folder);
    const found = await Promise.all([machine.obtain(), machine.obtain(), machine.obtain()]);
    assert.is(new Set(found.map(({ program }) => program)).size, 1);
    assert.equal(await readdir(machine.cacheFolder), [MYSQL.copyName]);
  });
});

test('a fetch on Ubuntu uses the first package name that the archive has', async () => {
  await withFolder(async (folder) => {
    const uris = `case "$*" in *core-8.0) ${URIS};; *) echo "E: Unable to locate"; exit 100;; esac`;
    const osRelease = 'ID=ubuntu\nVERSION_CODENAME=noble\n';
    const machine = await makeMachine(folder, { uris, osRelease });
    await machine.obtain();
    assert.match(machine.said.join('\n'), 'Fetching mysql-server-core-8.0 ');
    assert.match((await machine.commands()).at(-1) ?? '', /install mysql-server-core-8\.0$/);
  });
});

const failures: [what: string, stubs: Stubs, expected: RegExp[]][] = [
  ['no network', { update: 'echo "E: Could not resolve m.example" >&2; exit 100' },
    [/could not read the package lists/, /E: Could not resolve m\.example/]],
  ['bad signature', { update: 'echo "W: GPG error: NO_PUBKEY"; exit 100' }, [/NO_PUBKEY/]],
  ['no such package', { uris: 'echo "E: Unable to locate package"; exit 100' },
    [/no MySQL that can be installed/, /E: Unable to locate package/]],
  ['broken download', { install: ': > "$A/m.deb"; echo "E: Hash Sum mismatch"; exit 100' },
    [/could not fetch the packages/, /Hash Sum mismatch/]],
  ['nothing downloaded', { install: ':' }, [/fetched nothing/]],
  ['full disk', { unpack: `${UNPACK}; echo "dpkg-deb: No space left on device" >&2; exit 2` },
    [/unpacking .*m\.deb failed/, /No space left on device/]],
  ['no mysqld within', { unpack: 'mkdir -p "$3/usr"' }, [/unpacked mysqld is not complete/]],
  ['broken libraries', { unpack: `${UNPACK}; echo 'exit 127' > "$3/usr/sbin/mysqld"` },
    [/unpacked mysqld reports no MySQL version/]],
  ['another system', { osRelease: 'ID=fedora\n' }, [/neither Debian nor Ubuntu/]],
];

for (const [what, stubs, expected] of failures) {
  test(`${what} gives one error with the alternatives, and leaves nothing`, async () => {
    await withFolder(async (folder) => {
      const machine = await makeMachine(folder, stubs);
      const error = await errorOf(machine.obtain());
      assert.instance(error, MysqlServerError);
      for (const part of [...expected, /MYSQLD/, /DB_SOCKET/]) assert.match(error.message, part);
      assert.equal(await readdir(machine.cacheFolder).catch(() => []), []);
      if (what === 'another system') return;
      // Without the fault, the next fetch succeeds.
      const repaired = await makeMachine(folder);
      assert.is((await repaired.obtain()).versionText, '9.7.4-2');
    });
  });
}

test('a fetch removes the folders of killed fetches, and keeps those of running ones', async () => {
  await withFolder(async (folder) => {
    const machine = await makeMachine(folder);
    const prefix = `${MYSQL.copyName}.partial.`;
    const living = `${prefix}${process.pid}.${await startMark(process.pid)}.x`;
    const names = [`${prefix}${process.pid}.1-boot.x`, `${prefix}4194305.1-boot.x`, prefix, living];
    for (const name of names) await mkdir(join(machine.cacheFolder, name), { recursive: true });
    await machine.obtain();
    assert.equal((await readdir(machine.cacheFolder)).sort(), [MYSQL.copyName, living].sort());
  });
});

test('a copy that no longer runs is removed and fetched again', async () => {
  await withFolder(async (folder) => {
    const machine = await makeMachine(folder);
    const { leading } = await machine.obtain();
    await writeFile(leading.at(-1) ?? '', '');
    assert.is((await machine.obtain()).versionText, '9.7.4-2');
    assert.match(machine.said.join('\n'), 'Removing the copy of MySQL');
    assert.equal(await readdir(machine.cacheFolder), [MYSQL.copyName]);
  });
});

for (const phase of ['update', 'install', 'unpack'] as const) {
  test(`an abort during ${phase} ends every child and leaves nothing`, async () => {
    await withFolder(async (folder) => {
      const pids = join(folder, 'pids');
      const hang = `sleep 600 & echo "$$ $!" > "${pids}.new"; mv "${pids}.new" "${pids}"; wait`;
      const machine = await makeMachine(folder, { [phase]: hang });
      const abort = new AbortController();
      const failed = errorOf(machine.obtain(abort.signal));
      await eventually('it hangs', async () => (await readdir(folder)).includes('pids'));
      abort.abort(new Error('enough'));
      assert.is((await failed).message, 'enough');
      for (const pid of (await readFile(pids, 'utf8')).trim().split(' ')) {
        await eventually('it is gone', async () => (await startMark(Number(pid))) === undefined);
      }
      assert.equal(await readdir(machine.cacheFolder), []);
    });
  });
}

test.run();
