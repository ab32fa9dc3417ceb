/** The command line, and the plan of measurements that it asks for. */
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

/** Everything that is to be measured in rounds. */
export type Plan = Readonly<{
  steps: readonly Step[];
  rounds: number;
  seconds: number;
  warmUpSeconds: number;
  /** No round begins when so much time has gone. */
  budgetMs: number;
}>;

/** What the command line says. */
export type Options = Readonly<{
  plan: Plan;
  isQuick: boolean;
  poolSize: number;
  load: LoadProgram | null;
  /** The commit of `before`; null: it is not measured. */
  against: string | null;
  big: boolean;
  million: boolean;
  delivery: boolean;
  /** Of the extras, above 0 and at most 1. */
  scale: number;
  /** Less than the whole grid, or fewer rounds. */
  isPartial: boolean;
}>;

const USAGE = `usage: npm run bench -- [OPTION…]
  --quick             a short run on a part of the grid, under 3 minutes
  --only LIST         of issue,verify,refusal,flood,mixed,extras
  --connections LIST  default 1,8,64,256
  --targets LIST      of floor,otpd,bare,textbook,parts
  --rounds N          default 5
  --seconds S         of each measurement, whole; default 5
  --pool N            connections of each baseline, default 32
  --load wrk|own      default: wrk when it is there
  --against REF       also: the otpd of another commit, as before (issue and refusal)
  --big               also: with 5 million users and 10 million keys, and one address
  --million           also: memory after a million requests
  --delivery          also: requests beside a provider that takes 5 s, and one that takes 1 ms
  --scale X           --big and --million in small: times X, such as 0.1
A run of everything writes bench/results/, any smaller one bench/results/partial/.`;

/** Where the differences show, in the time that a quick run has. */
const QUICK_STEPS: readonly Step[] = [
  { workload: 'issue', connections: 1, targets: ['floor', 'otpd'] },
  { workload: 'issue', connections: 64, targets: ['floor', 'otpd', 'textbook', 'parts'] },
  { workload: 'issue', connections: 256, targets: ['floor', 'otpd'] },
  { workload: 'verify', connections: 64, targets: ['floor', 'otpd'] },
  { workload: 'refusal', connections: 64, targets: ['floor', 'otpd'] },
  { workload: 'flood', connections: 64, targets: ['otpd'] },
];

const NAMES = ['issue', 'verify', 'refusal', 'flood', 'mixed'];
/** Of the others the harness prepares what this version understands. */
const COMPARED = ['issue', 'refusal'];
const FLOOD_CONNECTIONS = 64;
const FULL_ROUNDS = 5;
const QUICK_ROUNDS = 3;
/** With compiling before and ending after it, a quick run takes less than 3 minutes. */
const QUICK_BUDGET_MS = 145_000;

/** A command line that cannot be obeyed. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/**
 * Reads the command line.
 *
 * @throws UsageError with the usage
 */
export function readOptions(argv: readonly string[]): Options {
  const values = parse(argv);
  const isQuick = values.quick ?? false;
  const load = values.load ?? null;
  if (load !== null && load !== 'wrk' && load !== 'own') throw new UsageError(USAGE);
  const rounds = whole(values.rounds, isQuick ? QUICK_ROUNDS : FULL_ROUNDS);
  const scale = Number(values.scale ?? 1);
  if (!(scale > 0 && scale <= 1)) throw new UsageError(USAGE);
  const chosen = [values.only, values.connections, values.targets, values.against];
  return {
    plan: {
      steps: stepsOf(values, isQuick),
      rounds,
      seconds: whole(values.seconds, isQuick ? 2 : 5),
      warmUpSeconds: 1,
      budgetMs: isQuick ? QUICK_BUDGET_MS : Infinity,
    },
    isQuick,
    poolSize: whole(values.pool, 32),
    load,
    against: values.against ?? null,
    big: values.big ?? false,
    million: values.million ?? false,
    delivery: values.delivery ?? false,
    scale,
    isPartial: isQuick || rounds < FULL_ROUNDS || chosen.some((text) => text !== undefined),
  };
}

type Values = ReturnType<typeof parse>;

function parse(argv: readonly string[]) {
  const flag = { type: 'boolean' } as const;
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...argv],
      options: {
        quick: flag, big: flag, million: flag, delivery: flag, only: text, connections: text,
        targets: text, rounds: text, seconds: text, pool: text, load: text, scale: text,
        against: text,
      },
    }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${USAGE}`);
  }
}

function whole(text: string | undefined, fallback: number): number {
  const number = text === undefined ? fallback : Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= 10_000) return number;
  throw new UsageError(USAGE);
}

function stepsOf(values: Values, isQuick: boolean): Step[] {
  const names = values.only?.split(',') ?? NAMES;
  if (names.some((name) => name !== 'extras' && !NAMES.includes(name))) throw new UsageError(USAGE);
  const chosen = values.targets?.split(',');
  const counts = values.connections?.split(',').map((text) => whole(text, 1));
  const grid = isQuick && counts === undefined ? QUICK_STEPS : fullGrid(counts ?? [1, 8, 64, 256]);
  return grid.filter(({ workload }) => names.includes(workload)).map((step) => {
    const targets = step.targets.filter((name) => chosen?.includes(name) ?? true);
    const isCompared = values.against !== undefined && COMPARED.includes(step.workload);
    return { ...step, targets: isCompared ? [...targets, 'before'] : targets };
  });
}

function fullGrid(counts: readonly number[]): Step[] {
  return NAMES.flatMap((workload) => {
    const targets = WORKLOADS.get(workload)?.targets ?? ['otpd'];
    const connections = workload === 'flood' ? [FLOOD_CONNECTIONS] : counts;
    return connections.map((count) => ({ workload, connections: count, targets }));
  });
}
