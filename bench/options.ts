/** The command line of the benchmark and the plan that follows from it. */
import { parseArgs } from 'node:util';
import type { LoadProgram } from './load.ts';
import type { TargetName } from './target.ts';
import { WORKLOADS } from './workloads.ts';

/** One workload at one number of connections. */
export type Step = Readonly<{
  workload: string;
  connections: number;
  targets: readonly TargetName[];
}>;

/** What is measured in rounds. */
export type Plan = Readonly<{
  steps: readonly Step[];
  rounds: number;
  seconds: number;
  warmUpSeconds: number;
  /** No measurement begins after this time. */
  budgetMs: number;
}>;

/** The command line, with its defaults. */
export type Options = Readonly<{
  plan: Plan;
  poolSize: number;
  load: LoadProgram | null;
  /** The commit to compare with; null: otpd is compared with the baselines. */
  against: string | null;
  /** otpd on one node is compared with otpd on a group of three. */
  isGroup: boolean;
  /** Size of the full tables, 1 for 10 million rows; null when they are not measured. */
  fullTablesScale: number | null;
  /** Everything is measured, so docs/performance.* are written. */
  isWhole: boolean;
}>;

const USAGE = `usage: npm run bench -- [OPTION…]
  --quick             measure part of the grid in under 3 minutes
  --only LIST         workloads: request,verify,refusal,mixed,full-tables
  --connections LIST  default: 1,8,64,256
  --targets LIST      services: floor,otpd,bare,textbook,parts
  --rounds N          default: 5
  --seconds N         length of each measurement; default: 5
  --pool N            pool size of each baseline; default: 32
  --load wrk|own      load generator; default: wrk if it is on the PATH
  --scale X           size of full-tables, above 0; default: 1, for 10 million rows
  --against COMMIT    compare this checkout with otpd of another commit, by turns;
                      default: request,verify,refusal on 1,64,256 connections, 12 rounds of 3 s
  --group             compare otpd on one node with otpd on a group of three, without and with
                      DB_CONSISTENCY=before, by turns; default: request,verify on 64
                      connections, 3 rounds of 3 s
Every run writes bench/results/. A run of everything takes about an hour, needs 10 GB in the
temporary folder, and also writes docs/performance.json, docs/performance.svg and the tables of
docs/performance.md.`;

/** The steps that show most in the time of a quick run. */
const QUICK_STEPS: readonly Step[] = [
  { workload: 'request', connections: 1, targets: ['floor', 'otpd'] },
  { workload: 'request', connections: 64, targets: ['floor', 'otpd', 'textbook', 'parts'] },
  { workload: 'request', connections: 256, targets: ['floor', 'otpd'] },
  { workload: 'verify', connections: 64, targets: ['floor', 'otpd'] },
  { workload: 'refusal', connections: 64, targets: ['floor', 'otpd'] },
];

const FULL_TABLES = 'full-tables';

/** What a command line selects when it says nothing else. */
const FULL = { names: [...WORKLOADS.keys()], connections: [1, 8, 64, 256], rounds: 5, seconds: 5 };
const QUICK = { ...FULL, rounds: 3, seconds: 2 };
const COMPARISON = {
  names: ['request', 'verify', 'refusal'], connections: [1, 64, 256], rounds: 12, seconds: 3,
};

const GROUP = { names: ['request', 'verify'], connections: [64], rounds: 3, seconds: 3 };

/** Compiling and stopping included, a quick run takes less than 3 minutes. */
const QUICK_BUDGET_MS = 145_000;

/** A wrong command line; the message contains the usage. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/**
 * Reads the command line.
 *
 * @throws UsageError
 */
export function readOptions(argv: readonly string[]): Options {
  const values = parse(argv);
  const isQuick = values.quick ?? false;
  const against = values.against ?? null;
  const isGroup = values.group ?? false;
  if (isGroup && against !== null) throw usageError('--group and --against exclude each other');
  const defaults = against !== null ? COMPARISON : isGroup ? GROUP : isQuick ? QUICK : FULL;
  const scale = Number(values.scale ?? 1);
  if (!(scale > 0 && scale <= 1)) throw usageError('--scale is above 0 and at most 1');
  const chosen = [values.only, values.connections, values.targets, values.against, values.scale];
  const rounds = wholeNumber('rounds', values.rounds, defaults.rounds);
  const isWhole = !isQuick && !isGroup && rounds >= FULL.rounds && chosen.every((text) => text === undefined);
  const names = values.only?.split(',') ?? (isWhole ? [...FULL.names, FULL_TABLES]
    : defaults.names);
  return {
    plan: {
      steps: stepsFor(values, names, defaults.connections),
      rounds,
      seconds: wholeNumber('seconds', values.seconds, defaults.seconds),
      warmUpSeconds: 1,
      budgetMs: isQuick ? QUICK_BUDGET_MS : Infinity,
    },
    poolSize: wholeNumber('pool', values.pool, 32),
    load: loadProgram(values.load),
    against,
    isGroup,
    fullTablesScale: names.includes(FULL_TABLES) ? scale : null,
    isWhole,
  };
}

type Values = ReturnType<typeof parse>;

function usageError(reason: string): UsageError {
  return new UsageError(`${reason}\n${USAGE}`);
}

function parse(argv: readonly string[]) {
  const flag = { type: 'boolean' } as const;
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...argv],
      options: {
        quick: flag, group: flag, only: text, connections: text, targets: text, rounds: text, seconds: text,
        pool: text, load: text, scale: text, against: text,
      },
    }).values;
  } catch (error) {
    throw usageError((error as Error).message);
  }
}

function wholeNumber(name: string, text: string | undefined, fallback: number): number {
  const number = text === undefined ? fallback : Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= 10_000) return number;
  throw usageError(`--${name} is a whole number from 1 to 10000`);
}

function loadProgram(text: string | undefined): LoadProgram | null {
  if (text === undefined || text === 'wrk' || text === 'own') return text ?? null;
  throw usageError('--load is wrk or own');
}

function stepsFor(values: Values, names: readonly string[], counts: readonly number[]): Step[] {
  const unknown = names.find((name) => name !== FULL_TABLES && !WORKLOADS.has(name));
  if (unknown !== undefined) throw usageError(`--only has no workload named ${unknown}`);
  const chosen = values.connections?.split(',')
    .map((text) => wholeNumber('connections', text, 1)) ?? counts;
  const isQuickGrid = values.quick && values.connections === undefined
    && values.against === undefined && !values.group;
  const grid = isQuickGrid ? QUICK_STEPS.filter(({ workload }) => names.includes(workload))
    : gridOf(names, chosen);
  const targets = values.targets?.split(',');
  return grid.map((step) => ({
    ...step,
    targets: values.against !== undefined ? ['base', 'otpd']
      : values.group ? ['otpd', 'group', 'before']
      : step.targets.filter((name) => targets?.includes(name) ?? true),
  }));
}

function gridOf(names: readonly string[], counts: readonly number[]): Step[] {
  return [...WORKLOADS].filter(([workload]) => names.includes(workload))
    .flatMap(([workload, { targets }]) =>
      counts.map((connections) => ({ workload, connections, targets })));
}
