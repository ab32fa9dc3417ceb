/** Runs the files of a lane, or chosen files, on their own MySQL. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { MysqlServer } from '../../tools/mysql/server.ts';
import { findUndescribed } from '../harness/description-check.ts';
import { findLeaks, startGeneralLog } from '../harness/leak-check.ts';
import { startTestMysql } from '../harness/mysql.ts';
import { compiledTest, ROOT } from '../harness/program.ts';
import { buildDigest, compile } from './build.ts';
import { measureCoverage } from './coverage.ts';
import { isPure, testName } from './files.ts';
import type { Lane } from './files.ts';
import { killPrograms, runNode } from './program.ts';
import type { Variables } from './program.ts';
import { createRecord, readResult, recordOf, writeResult } from './record.ts';
import { Report } from './report.ts';

/**
 * Two files keep two cores busy, and a third one runs while others wait for a clock or a process.
 */
const PARALLEL_FILES = 3;

type Run = Readonly<{
  report: Report;
  files: readonly string[];
  leakFolder: string;
  /** Variables of every test file. */
  variables: Variables;
  /** Folders of the leak recorder that are checked together with `leakFolder`. */
  otherLeakFolders: readonly string[];
  isWhole: boolean;
  /** Whether its tests see every answer that the description has. */
  seesAllAnswers: boolean;
}>;

/** Runs a whole lane and writes its record. */
export async function runLane(lane: Lane, files: readonly string[]): Promise<void> {
  const { coverageFolder, leakFolder, outputFile } = createRecord(lane);
  const report = new Report(outputFile);
  await report.check('types', compile);
  const build = buildDigest();
  const other = lane === 'proof' && readResult('fast')?.build === build ? recordOf('fast') : null;
  const otherLeakFolders = other === null ? [] : [other.leakFolder];
  const variables = { NODE_V8_COVERAGE: coverageFolder };
  await runOnMysql({
    report, files, leakFolder, variables, otherLeakFolders, isWhole: true,
    seesAllAnswers: lane === 'fast',
  });
  if (lane === 'proof') {
    await checkCoverage(report, other === null ? null : [coverageFolder, other.coverageFolder]);
  }
  report.close(`${lane} lane, ${report.seconds.toFixed(0)} s: `);
  writeResult(lane, { ...report.counts, build, seconds: report.seconds });
}

/** Runs only some files, without a record. */
export async function runChosen(files: readonly string[]): Promise<void> {
  const leakFolder = mkdtempSync(join(tmpdir(), 'otpd-leaks-'));
  const report = new Report(null);
  try {
    await report.check('types', compile);
    await runOnMysql({
      report, files, leakFolder, variables: {}, otherLeakFolders: [], isWhole: false,
      seesAllAnswers: false,
    });
  } finally {
    rmSync(leakFolder, { recursive: true, force: true });
  }
  report.close('');
}

async function checkCoverage(report: Report, folders: readonly string[] | null): Promise<void> {
  if (folders === null) {
    report.print('Coverage was not judged: npm test has not run on this build.');
    return;
  }
  report.print('The coverage is that of both lanes: npm test has run on this build.');
  await report.check('coverage', async () => {
    const { passed, table } = await measureCoverage(folders);
    if (passed) report.print(table);
    return passed ? '' : table;
  });
}

/** Pure files run while MySQL starts; the others wait for it. */
async function runOnMysql(run: Run): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'otpd-test-'));
  const stopping = new AbortController();
  const starting = startServer(scratch, run, stopping.signal);
  // The error of a server that does not start reaches the first file that waits for it.
  starting.catch(() => {});
  const stop = async (): Promise<void> => {
    stopping.abort();
    await starting.then((server) => server.stop(), () => {});
    rmSync(scratch, { recursive: true, force: true });
  };
  stopOnSignals(stop);
  try {
    await runFiles(run, starting);
    const { socketPath } = await starting;
    await run.report.check('no code leaked', () => findLeaks(
      socketPath, [run.leakFolder, ...run.otherLeakFolders], run.isWhole,
    ));
    await run.report.check('every answer is described', () => findUndescribed(
      [run.leakFolder], run.seesAllAnswers,
    ));
  } finally {
    await stop();
  }
}

async function startServer(
  scratch: string,
  { report, leakFolder }: Run,
  signal: AbortSignal,
): Promise<MysqlServer> {
  const server = await startTestMysql({
    folder: join(scratch, 'mysql'), durable: false, signal, print: (line) => report.print(line),
  });
  await startGeneralLog(server.socketPath, leakFolder);
  return server;
}

async function runFiles(run: Run, starting: Promise<MysqlServer>): Promise<void> {
  const queue = [...run.files];
  let socketPath: string | null = null;
  const started = starting.then((server) => { socketPath = server.socketPath; });
  started.catch(() => {});
  const takeNext = async (): Promise<string | undefined> => {
    const pure = socketPath === null ? queue.findIndex(isPure) : -1;
    if (pure >= 0) return queue.splice(pure, 1)[0];
    await started;
    return queue.shift();
  };
  const worker = async (): Promise<void> => {
    for (let file = await takeNext(); file !== undefined; file = await takeNext()) {
      await runFile(run, file, socketPath);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_FILES }, worker));
}

function runFile(run: Run, file: string, socketPath: string | null): Promise<void> {
  const variables = {
    ...run.variables,
    OTPD_TEST_LEAKS: run.leakFolder,
    OTPD_TEST_SOCKET: isPure(file) ? undefined : socketPath ?? undefined,
  };
  return run.report.countFile(relative(ROOT, file),
    () => runNode([compiledTest(testName(file))], variables));
}

/** Ctrl-C leaves no server and no test process running. */
function stopOnSignals(stop: () => Promise<void>): void {
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      killPrograms();
      void stop().finally(() => process.exit(1));
    });
  }
}
