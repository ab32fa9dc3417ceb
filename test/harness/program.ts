/**
 * How tests start otpd and themselves. The runner compiles both once: tests start hundreds of
 * processes, and each starts three times faster than from the source. Source maps relate the
 * coverage to the source.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BUILD_NAME = '.test-build';

/** The project, or its compiled copy. */
const ABOVE = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

export const ROOT = basename(ABOVE) === BUILD_NAME ? dirname(ABOVE) : ABOVE;

/** The description of the API, which otpd serves. */
export const DESCRIPTION = readFileSync(join(ROOT, 'openapi.json'));

/** The runner compiles src, tools and test into this folder, under their own names. */
export const BUILD_FOLDER = join(ROOT, BUILD_NAME);

/** The parameters of node that run otpd. */
export const COMPILED: readonly string[] = [join(BUILD_FOLDER, 'src/main.js')];

/** The parameters of node that run otpd as the npm scripts do, with the development MySQL. */
export const COMPILED_DEV: readonly string[] = [join(BUILD_FOLDER, 'tools/dev.js')];

/**
 * The path of a compiled file of test/.
 *
 * @param name the path below test/, such as `db/bind.test.ts`
 */
export function compiledTest(name: string): string {
  return join(BUILD_FOLDER, 'test', name.replace(/\.ts$/, '.js'));
}

/** The same from the source, with the project as the working folder. */
export const DEV_FROM_SOURCE: readonly string[] = ['--import', 'tsx', 'tools/dev.ts'];
export const FROM_SOURCE: readonly string[] = ['--import', 'tsx', 'src/main.ts'];

/** The environment of the shell of a user, without variables of otpd. */
export const SHELL: NodeJS.ProcessEnv = {
  PATH: process.env.PATH, HOME: process.env.HOME, MYSQLD: process.env.MYSQLD,
  XDG_CACHE_HOME: process.env.XDG_CACHE_HOME, NODE_V8_COVERAGE: process.env.NODE_V8_COVERAGE,
};
