/**
 * npm run scenario -- FILE…: runs scenario files on their own MySQL and prints a table of the
 * events, every difference in full, and `N passed, N failed`.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MysqlServerError } from '../../tools/mysql/error.ts';
import { listenForStop, Stopped } from '../../src/app/process/shutdown.ts';
import { closeClient } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startTestMysql } from '../harness/mysql.ts';
import { parseScenario } from './parse-scenario.ts';
import { runScenario } from './run.ts';
import { describeDifferences, tableEvent, tableHead } from './report.ts';
import { ScenarioError } from './scenario.ts';
import type { Scenario } from './scenario.ts';

const USAGE = `usage: npm run scenario -- FILE…

Runs scenario files against the real service on a throwaway MySQL, for example
  npm run scenario -- scenarios/request/eight-events.scenario
  npm run scenario -- scenarios/*/*.scenario
Exits with 1 when an answer differs from what a file expects, with 2 when a file cannot be read.`;

/** For output that is no terminal, such as a file. */
const COLUMNS_DEFAULT = 120;

type Counts = { passed: number; failed: number };

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Reads all files before the first one runs, so that an error in the last is shown at once. */
function readFiles(files: readonly string[]): { scenarios: Scenario[]; errors: string[] } {
  const scenarios: Scenario[] = [];
  const errors: string[] = [];
  for (const file of files) {
    try {
      scenarios.push(parseScenario(file, readFileSync(file, 'utf8')));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (error instanceof ScenarioError) errors.push(message);
      else if (code !== undefined) errors.push(`${file}: cannot be read (${code})`);
      else throw error;
    }
  }
  return { scenarios, errors };
}

async function run(
  scenario: Scenario,
  database: TestDatabase,
  counts: Counts,
): Promise<void> {
  const columns = process.stdout.columns ?? COLUMNS_DEFAULT;
  const differing: string[] = [];
  print(`\n${scenario.file}\n${tableHead(columns)}`);
  await runScenario(scenario, database, (result) => {
    print(tableEvent(result, columns));
    counts[result.passed ? 'passed' : 'failed'] += 1;
    if (!result.passed) differing.push(describeDifferences(scenario.file, result));
  });
  if (differing.length > 0) print(`\n${differing.join('\n\n')}`);
}

async function runAll(scenarios: readonly Scenario[], stop: AbortSignal): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0 };
  const folder = mkdtempSync(join(tmpdir(), 'otpd-scenario-'));
  try {
    const server = await startTestMysql({
      folder: join(folder, 'mysql'), durable: false, print, signal: stop,
    });
    process.env.OTPD_TEST_SOCKET = server.socketPath;
    // Covers an uncaught error and a second Ctrl-C.
    const onExit = (): void => {
      process.kill(server.processId, 'SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    };
    process.once('exit', onExit);
    try {
      const database = await createTestDatabase();
      for (const scenario of scenarios) {
        stop.throwIfAborted();
        await run(scenario, database, counts);
      }
    } finally {
      closeClient();
      await server.stop();
      process.off('exit', onExit);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return counts;
}

async function main(files: readonly string[]): Promise<number> {
  if (files.length === 0 || files.some((file) => file.startsWith('-'))) {
    print(USAGE);
    return files.some((file) => file === '--help' || file === '-h') ? 0 : 2;
  }
  const { scenarios, errors } = readFiles(files);
  if (errors.length > 0) {
    process.stderr.write(`${errors.join('\n')}\n`);
    return 2;
  }
  try {
    const { passed, failed } = await runAll(scenarios, listenForStop());
    print(`\n${passed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof Stopped) return 1;
    if (!(error instanceof MysqlServerError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
