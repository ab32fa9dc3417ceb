/**
 * otpd as tests start it. The runner compiles it once: hundreds of processes are started, and each
 * takes a third of the time that it takes from the source. The coverage is mapped back.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Where the runner puts what it compiles: beside src, as dist is, so that the rest is found. */
export const BUILD_FOLDER = join(ROOT, '.test-build');

/** The parameters of node that run otpd. */
export const COMPILED: readonly string[] = [join(BUILD_FOLDER, 'main.js')];

/** Those of `npm start`, in the folder of the project. */
export const FROM_SOURCE: readonly string[] = ['--import', 'tsx', 'src/main.ts'];

/** What a user's shell has, and nothing of otpd. */
export const SHELL: NodeJS.ProcessEnv = {
  PATH: process.env.PATH, HOME: process.env.HOME, MYSQLD: process.env.MYSQLD,
  XDG_CACHE_HOME: process.env.XDG_CACHE_HOME, NODE_V8_COVERAGE: process.env.NODE_V8_COVERAGE,
};
