/** A mysqld that can be started: its program, what comes before its options, and its version. */
import { judgeVersion } from '../checks/mysql-version.ts';
import type { MysqlVersion } from '../checks/mysql-version.ts';
import { runCommand } from './command.ts';
import { errorCode } from './local-server-error.ts';

/** A program that prints its version does so at once; a cold disk may need a few seconds. */
const VERSION_TIMEOUT_MS = 20_000;

/** How to start a mysqld; `layout` are the options that say where its own files are. */
export type MysqldLaunch = Readonly<{
  program: string;
  /** Arguments before mysqld's own: the path of mysqld after its dynamic loader. */
  leading: readonly string[];
  layout: readonly string[];
}>;

/** A mysqld that was asked for its version and is good enough. */
export type Mysqld = MysqldLaunch & Readonly<{ versionText: string; version: MysqlVersion }>;

/** The outcome of asking; `reason` is the end of a sentence that begins with its path. */
type Examined =
  | Readonly<{ usable: true; mysqld: Mysqld }>
  | Readonly<{ usable: false; reason: string }>;

/** mysqld gets no environment but this: nothing of the caller's, no file for others to read. */
export const MYSQLD_ENVIRONMENT: Readonly<Record<string, string>> = Object.freeze({
  PATH: '/usr/bin:/bin',
  LC_ALL: 'C',
  // MySQL's own variables for the modes of what it creates (manual, "Environment Variables").
  UMASK: '0600',
  UMASK_DIR: '0700',
});

/**
 * Runs `mysqld --version` and judges the answer.
 *
 * @param launch the program to ask
 */
export async function examineMysqld(launch: MysqldLaunch, signal?: AbortSignal): Promise<Examined> {
  const parameters = [...launch.leading, '--no-defaults', '--version'];
  try {
    const end = await runCommand(launch.program, parameters, {
      timeoutMs: VERSION_TIMEOUT_MS,
      signal,
      environment: MYSQLD_ENVIRONMENT,
    });
    if (end.timedOut) return { usable: false, reason: 'did not tell its version in time' };
    const verdict = judgeVersion(end.output);
    if (!verdict.usable) return verdict;
    const { text: versionText, version } = verdict;
    return { usable: true, mysqld: { ...launch, versionText, version } };
  } catch (error) {
    const code = errorCode(error);
    if (signal?.aborted || code === undefined) throw error;
    return { usable: false, reason: `cannot be run (${code})` };
  }
}
