/**
 * npm run bench: measures otpd and the baselines on a private durable MySQL and writes
 * bench/results/. See bench/README.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildBefore } from './before.ts';
import type { Before } from './before.ts';
import { build, RESULTS, ROOT } from './build.ts';
import { composeChart } from './chart.ts';
import { say, stopSignal } from './command.ts';
import { runExtras } from './extras.ts';
import type { Extras } from './extras.ts';
import { judgeGoals } from './goals.ts';
import { openLab } from './lab.ts';
import { describeMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { readOptions, UsageError } from './options.ts';
import type { Options } from './options.ts';
import { runRounds } from './rounds.ts';
import { run } from './run.ts';
import type { Sample } from './rounds.ts';
import { summarise } from './summary.ts';
import { composeTable } from './table.ts';

/** Variables of otpd that go through from the caller to the otpd that is measured. */
const SETTINGS: readonly string[] = ['WORKERS', 'DB_CONNECTIONS', 'NODE_OPTIONS'];

async function bench(options: Options, signal: AbortSignal): Promise<void> {
  await build();
  const before = options.against === null ? null : await buildBefore(ROOT, options.against, run);
  try {
    await measure(options, before, signal);
  } finally {
    await before?.remove();
  }
}

async function measure(
  options: Options,
  before: Before | null,
  signal: AbortSignal,
): Promise<void> {
  const { poolSize, load } = options;
  const folder = before?.folder ?? null;
  const lab = await openLab({ poolSize, load, beforeFolder: folder }, say, signal);
  try {
    say(`MySQL ${lab.server.version}, load by ${lab.program}`);
    const machine = describeMachine(lab);
    const samples = await runRounds(lab, options.plan, say);
    const extras = await runExtras(lab, options, say);
    writeResults(machine, options, samples, extras);
  } finally {
    await lab.close();
  }
}

/** The table, the raw numbers and the chart; a part never overwrites the whole. */
function writeResults(
  machine: Machine,
  options: Options,
  samples: readonly Sample[],
  extras: Extras,
): void {
  const settings = Object.fromEntries(SETTINGS.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  }));
  const rows = summarise([...samples, ...extras.samples]);
  const goals = judgeGoals(rows, extras);
  const raw = { machine, options, settings, goals, rows, samples, extras };
  const folder = options.isPartial ? join(RESULTS, 'partial') : RESULTS;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'raw.json'), `${JSON.stringify(raw, null, 1)}\n`);
  const table = composeTable({ machine, options, settings, rows, goals, extras });
  writeFileSync(join(folder, 'README.md'), table);
  writeFileSync(join(folder, 'chart.svg'), composeChart(rows));
  for (const { text, measured, isMet } of goals) {
    say(`${isMet ? 'met ' : 'MISS'} ${text}: ${measured}`);
  }
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
