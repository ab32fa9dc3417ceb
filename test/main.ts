/**
 * npm test: checks the types and compiles, runs every test file on a throwaway MySQL, looks for
 * codes that leaked, and holds the coverage. `npm test -- FILE…` runs only those files.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { startMysqlServer } from '../tools/mysql/server.ts';
import type { MysqlServer } from '../tools/mysql/server.ts';
import { readMysqlSettings } from '../tools/mysql/settings.ts';
import { findLeaks, startGeneralLog } from './harness/leak-check.ts';
import { BUILD_FOLDER, compiledTest, ROOT } from './harness/program.ts';

const TESTS_FOLDER = join(ROOT, 'test');
const COVERAGE_FOLDER = join(ROOT, 'coverage');

/** As many files at a time; more would only make the races of the tests less real. */
const PARALLEL_FILES = 2;
const FILE_TIMEOUT_MS = 300_000;

type Tally = { passed: number; failed: number };
type Ended = Readonly<{ code: number; output: string }>;

/** Test files and compilers that are running. */
const running = new Set<ChildProcess>();

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function run(program: string, parameters: string[], environment = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(program, parameters, {
      cwd: ROOT,
      env: { ...process.env, ...environment },
      timeout: FILE_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    running.add(child);
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString(); });
    child.stderr.on('data', (chunk: Buffer) => { output += chunk.toString(); });
    child.on('error', (error) => resolve({ code: 1, output: String(error) }));
    child.on('close', (code) => {
      running.delete(child);
      resolve({ code: code ?? 1, output });
    });
  });
}

/** Counts a check that passes or fails as a whole. */
async function check(tally: Tally, name: string, work: () => Promise<string>): Promise<void> {
  const problem = await work();
  if (problem === '') {
    tally.passed += 1;
    say(`ok      ${name}`);
  } else {
    tally.failed += 1;
    say(`FAILED  ${name}\n${problem}`);
  }
}

async function runFile(tally: Tally, file: string, environment: object): Promise<void> {
  const startMs = performance.now();
  const compiled = compiledTest(relative(TESTS_FOLDER, file));
  const { code, output } = await run(process.execPath, [compiled], environment);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  const total = Number(/^\s*Total:\s+(\d+)/m.exec(output)?.[1] ?? 0);
  const passed = Number(/^\s*Passed:\s+(\d+)/m.exec(output)?.[1] ?? 0);
  // A file that died, or that passed nothing, or skipped something, has failed.
  const failed = Math.max(total - passed, code === 0 && passed > 0 ? 0 : 1);
  tally.passed += passed;
  tally.failed += failed;
  const name = relative(ROOT, file);
  if (failed === 0) say(`ok      ${name} (${passed} in ${seconds} s)`);
  else say(`FAILED  ${name} (${failed} of ${Math.max(total, 1)})\n${output}`);
}

function findTestFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => join(folder, name));
}

async function runFiles(tally: Tally, files: string[], environment: object): Promise<void> {
  const queue = [...files];
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      await runFile(tally, file, environment);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_FILES }, worker));
}

/** Checks the types of src, tools and test, and compiles them. */
async function compile(): Promise<string> {
  rmSync(BUILD_FOLDER, { recursive: true, force: true });
  mkdirSync(BUILD_FOLDER);
  const { code, output } = await run(process.execPath, [
    join(ROOT, 'node_modules/.bin/tsc'),
    '--noEmit', 'false', '--rootDir', '.', '--outDir', BUILD_FOLDER, '--sourceMap',
  ]);
  // What otpd reads at its start stands beside its src.
  for (const name of ['schema', 'messages']) {
    symlinkSync(join(ROOT, name), join(BUILD_FOLDER, name));
  }
  return code === 0 ? '' : output;
}

async function checkCoverage(): Promise<string> {
  const { code, output } = await run(process.execPath, [
    join(ROOT, 'node_modules/.bin/c8'), 'report',
    '--temp-directory', join(COVERAGE_FOLDER, 'raw'), '--reports-dir', COVERAGE_FOLDER,
    '--all', '--src', 'src', '--include', 'src/**', '--exclude-after-remap',
    '--reporter', 'text', '--reporter', 'lcovonly',
    '--check-coverage', '--lines', '95', '--branches', '90', '--functions', '0',
    '--statements', '0',
  ]);
  if (code === 0) say(output);
  return code === 0 ? '' : output;
}

function startThrowawayServer(folder: string): Promise<MysqlServer> {
  return startMysqlServer({
    ...readMysqlSettings(process.env), folder, durable: false, print: say,
  });
}

/** Whoever breaks the tests off, as Ctrl-C does, leaves no server behind. */
function stopOnSignals(stop: () => Promise<void>): void {
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      for (const child of running) child.kill('SIGKILL');
      void stop().finally(() => process.exit(1));
    });
  }
}

async function main(chosen: string[]): Promise<void> {
  const tally: Tally = { passed: 0, failed: 0 };
  const scratch = mkdtempSync(join(tmpdir(), 'otpd-test-'));
  const trail = join(scratch, 'trail');
  mkdirSync(trail);
  const isWhole = chosen.length === 0;
  const files = isWhole ? findTestFiles(TESTS_FOLDER) : chosen.map((file) => resolve(file));
  const coverage = join(COVERAGE_FOLDER, 'raw');
  if (isWhole) rmSync(COVERAGE_FOLDER, { recursive: true, force: true });
  await check(tally, 'types', compile);
  const server = await startThrowawayServer(join(scratch, 'mysql'));
  const stop = async (): Promise<void> => {
    await server.stop();
    rmSync(scratch, { recursive: true, force: true });
  };
  stopOnSignals(stop);
  try {
    await startGeneralLog(server.socketPath, trail);
    await runFiles(tally, files, {
      OTPD_TEST_SOCKET: server.socketPath,
      OTPD_TEST_TRAIL: trail,
      ...(isWhole ? { NODE_V8_COVERAGE: coverage } : {}),
    });
    await check(tally, 'no code leaked', () => findLeaks(server.socketPath, trail, isWhole));
  } finally {
    await stop();
  }
  if (isWhole) await check(tally, 'coverage', checkCoverage);
  say(`\n${tally.passed} passed, ${tally.failed} failed`);
  process.exitCode = tally.failed === 0 ? 0 : 1;
}

await main(process.argv.slice(2));
