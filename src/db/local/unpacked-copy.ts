/**
 * A MySQL that was unpacked from packages into a folder of the user. It runs with the dynamic
 * loader and the libraries that came with it, so it fits any system of the architecture.
 */
import { join } from 'node:path';
import type { MysqldLaunch } from './mysqld-program.ts';
import { isFile, namesIn } from './present-files.ts';

/** ld-linux-x86-64.so.2, ld-linux-aarch64.so.1, ld64.so.2, …: the names of glibc's loader. */
const LOADER_NAME = /^ld(-linux[\w-]*|64)\.so\.\d+$/;

/** The name of the complete copy in the cache folder; a home may serve several machines. */
export function copyName(): string {
  return `mysql-${process.platform}-${process.arch}`;
}

/**
 * How to start the mysqld of an unpacked tree.
 *
 * @param root the folder that the packages were unpacked into
 * @returns undefined when the tree has no mysqld, or no loader for it
 */
export async function describeCopy(root: string): Promise<MysqldLaunch | undefined> {
  const program = join(root, 'usr/sbin/mysqld');
  const folders = await libraryFolders(root);
  const loader = await findLoader(folders);
  if (loader === undefined || !(await isFile(program))) return undefined;
  const share = join(root, 'usr/share/mysql');
  return {
    program: loader,
    leading: ['--library-path', folders.join(':'), program],
    layout: [
      `--basedir=${join(root, 'usr')}`,
      `--lc-messages-dir=${share}`,
      `--character-sets-dir=${join(share, 'charsets')}`,
      `--plugin-dir=${join(root, 'usr/lib/mysql/plugin')}`,
    ],
  };
}

/** The folders of the architecture first: another one's libraries may stand beside them. */
async function libraryFolders(root: string): Promise<string[]> {
  const bases = [join(root, 'usr/lib'), join(root, 'lib')];
  const triplets = await Promise.all(bases.map(tripletFolders));
  const own = join(root, 'usr/lib/mysql/private');
  const candidates = [...triplets.flat(), own, ...bases, join(root, 'usr/lib64')];
  const present = await Promise.all(candidates.map(namesIn));
  return candidates.filter((_, index) => (present[index] ?? []).length > 0);
}

async function tripletFolders(base: string): Promise<string[]> {
  const names = (await namesIn(base)).filter((name) => /-linux-gnu\w*$/.test(name));
  return names.map((name) => join(base, name));
}

async function findLoader(folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    for (const name of (await namesIn(folder)).filter((entry) => LOADER_NAME.test(entry))) {
      if (await isFile(join(folder, name))) return join(folder, name);
    }
  }
  return undefined;
}
