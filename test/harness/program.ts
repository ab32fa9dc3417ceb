/**
 * otpd and the tests as they are started. The runner compiles them once: hundreds of processes are
 * started, and each takes a third of the time that it takes from the source. The coverage is
 * mapped back.
 */
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BUILD_NAME = '.test-build';

/** The project, or what is compiled of it. */
const ABOVE = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** The project. */
export const ROOT = basename(ABOVE) === BUILD_NAME ? dirname(ABOVE) : ABOVE;

/** Where the runner puts what it compiles of src and test, each with its name. */
export const BUILD_FOLDER = join(ROOT, BUILD_NAME);

/** The parameters of node that run otpd. */
export const COMPILED: readonly string[] = [join(BUILD_FOLDER, 'src/main.js')];

/** The parameters of node that run otpd as the npm scripts do: with a MySQL where none is set. */
export const COMPILED_DEV: readonly string[] = [join(BUILD_FOLDER, 'tools/dev.js')];

/**
 * What node runs for a file of test/.
 *
 * @param name its path there, such as `db/bind.test.ts`
 */
export function compiledTest(name: string): string {
  return join(BUILD_FOLDER, 'test', name.replace(/\.ts$/, '.js'));
}

/** Both from the source, in the folder of the project. */
export const DEV_FROM_SOURCE: readonly string[] = ['--import', 'tsx', 'tools/dev.ts'];
export const FROM_SOURCE: readonly string[] = ['--import', 'tsx', 'src/main.ts'];

/** What a user's shell has, and nothing of otpd. */
export const SHELL: NodeJS.ProcessEnv = {
  PATH: process.env.PATH, HOME: process.env.HOME, MYSQLD: process.env.MYSQLD,
  XDG_CACHE_HOME: process.env.XDG_CACHE_HOME, NODE_V8_COVERAGE: process.env.NODE_V8_COVERAGE,
};
