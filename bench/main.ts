/** npm run bench: measures otpd and the baselines on a durable MySQL; see docs/performance.md. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, buildCommit, print, RESULTS, ROOT, stopSignal } from './build.ts';
import { composeChart } from './chart.ts';
import { measureFullTables } from './full-tables.ts';
import { openLab } from './lab.ts';
import { describeMachine } from './machine.ts';
import { readOptions, UsageError } from './options.ts';
import type { Options } from './options.ts';
import { runRounds } from './rounds.ts';
import type { Sample } from './rounds.ts';
import { summarise } from './summary.ts';
import { composeComparison, composeJson, composeTables } from './table.ts';
import type { Report } from './table.ts';

/** Variables of the caller that change the otpd that is measured. */
const SETTINGS: readonly string[] = ['WORKERS', 'DB_CONNECTIONS', 'NODE_OPTIONS'];

const PAGE = join(ROOT, 'docs/performance.md');

/** The part of the page that a whole run replaces. */
const TABLES = /(?<=<!-- tables: written by npm run bench -->\n)[^]*(?=<!-- end of tables -->)/;

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  await build();
  const base = options.against === null ? null : await buildCommit(options.against);
  try {
    await measure(options, base?.folder ?? null, signal);
  } finally {
    await base?.remove();
  }
}

async function measure(
  options: Options,
  baseFolder: string | null,
  signal: AbortSignal,
): Promise<void> {
  const { poolSize, load, plan, isGroup, fullTablesScale } = options;
  const lab = await openLab({ poolSize, load, baseFolder, isGroup }, signal);
  try {
    print(`MySQL ${lab.server.version}, load from ${lab.program}`);
    const machine = describeMachine(lab);
    const samples = await runRounds(lab, plan);
    if (fullTablesScale !== null) {
      samples.push(...await measureFullTables(lab, plan, fullTablesScale));
    }
    const settings = Object.fromEntries(SETTINGS.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }));
    writeResults({ machine, options, settings, rows: summarise(samples) }, samples);
  } finally {
    await lab.close();
  }
}

function writeResults(report: Report, samples: readonly Sample[]): void {
  const { options, rows } = report;
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(join(RESULTS, 'raw.json'), `${JSON.stringify({ ...report, samples }, null, 1)}\n`);
  const isComparison = options.isGroup || options.against !== null;
  const page = isComparison ? composeComparison(report) : composeTables(report);
  writeFileSync(join(RESULTS, 'report.md'), page);
  print(`\n${page}`);
  if (!options.isWhole) return;
  writeFileSync(join(ROOT, 'docs/performance.json'), composeJson(report));
  writeFileSync(join(ROOT, 'docs/performance.svg'), composeChart(rows));
  writeFileSync(PAGE, readFileSync(PAGE, 'utf8').replace(TABLES, () => `\n${page}\n`));
  print('written: docs/performance.json, docs/performance.svg, the tables of docs/performance.md');
}

async function main(argv: readonly string[]): Promise<number> {
  const stop = stopSignal();
  try {
    await bench(readOptions(argv), stop);
    return 0;
  } catch (error) {
    const isExpected = error instanceof UsageError || stop.aborted;
    process.stderr.write(`${isExpected ? (error as Error).message : (error as Error).stack}\n`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
