/** The data folder for the tests of tools/dev.ts, and the commands that run on it. */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { processesWithArguments } from '../../tools/mysql/processes.ts';
import { closeClient } from '../harness/client.ts';
import { COMPILED_DEV } from '../harness/program.ts';
import { endAll, finish, start } from '../harness/run.ts';
import type { Run } from '../harness/run.ts';
import { eventually } from '../harness/waiting.ts';

export const WAIT_MAX_MS = 60_000;

/** Contains the folders of a test. */
export const base = realpathSync(mkdtempSync(join(tmpdir(), 'otpd-dev-')));

/** The tests share one data folder: each test leaves its MySQL stopped, and its data in place. */
export const DATA_FOLDER = join(base, 'data folder');

/** A `.env` of the working copy must not decide where these commands run. */
export const ENVIRONMENT = { DATA_FOLDER, DB_HOST: '', DB_SOCKET: '', OTP_SECRETS: '' };

/** Ends the processes that a failed test has left, and removes the folders. */
export async function cleanUp(): Promise<void> {
  closeClient();
  endAll();
  await eventually('MySQL has ended', async () => (await mysqlProcesses()).length === 0,
    WAIT_MAX_MS);
  rmSync(base, { recursive: true, force: true });
}

/** Starts a command through tools/dev.ts. */
export function dev(parameters: string[], more: object = {}, program = COMPILED_DEV): Run {
  return start(parameters, { ...ENVIRONMENT, ...more }, program);
}

/** The ids of the mysqld that serve a data folder. */
export function mysqlProcesses(folder = DATA_FOLDER): Promise<number[]> {
  return processesWithArguments([`--datadir=${join(folder, 'data')}`]);
}

/** The id of the mysqld that serves a data folder. */
export async function mysqlId(folder = DATA_FOLDER): Promise<number> {
  const [id, ...others] = await mysqlProcesses(folder);
  assert.equal(others, []);
  return id!;
}

/** Stops a command, and checks that its MySQL has stopped, too. */
export async function stop(run: Run, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  run.child.kill(signal);
  assert.is(await finish(run), 0, run.output());
  assert.equal(await mysqlProcesses(), []);
}
