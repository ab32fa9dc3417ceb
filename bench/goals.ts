/** The goals of issue 3, each with what was measured. A goal that was not measured is left out. */
import type { Extras } from './extras.ts';
import type { SummaryRow } from './summary.ts';

/** One goal and its outcome. */
export type Goal = Readonly<{ text: string; measured: string; isMet: boolean }>;

/** Lower and upper bounds on the ratio to the floor, for the chart and the table. */
export const RATIO_GOALS: ReadonlyMap<string, number> = new Map([
  ['issue 64', 1.5], ['issue 256', 2], ['verify 64', 1.5], ['verify 256', 2],
  ['refusal 1', 3], ['refusal 8', 3], ['refusal 64', 3], ['refusal 256', 3],
]);

const CPU_RATIO_MAX = 0.6;
const ONE_CONNECTION_P50_RATIO_MAX = 3;
const KEPT_SHARE_MIN = 0.5;
const BASELINE_SHARE_MAX = 1 / 8;
const RESIDENT_MAX_BYTES = 150e6;
const BIG_SHARE_MIN = 0.8;
const ONE_ADDRESS_SHARE_MIN = 0.5;
const SLOW_PROVIDER_MAX = 1.2;
/** Memory after a million requests may differ from before by the noise of the collector. */
const GROWTH_MAX = 1.15;

type Find = (workload: string, connections: number, target?: string) => SummaryRow | undefined;

/** Judges every goal that was measured. */
export function judgeGoals(rows: readonly SummaryRow[], extras: Extras): Goal[] {
  const find: Find = (workload, connections, target = 'otpd') => rows.find((row) =>
    row.workload === workload && row.connections === connections && row.target === target);
  return [
    ...throughputGoals(rows),
    ...cpuGoals(find),
    ...floodGoal(find),
    ...latencyGoal(find),
    ...baselineGoals(find),
    ...extraGoals(extras),
    ...memoryGoals(rows),
    errorGoal(rows),
  ];
}

function throughputGoals(rows: readonly SummaryRow[]): Goal[] {
  return rows.flatMap(({ workload, connections, target, ratio }) => {
    const goal = RATIO_GOALS.get(`${workload} ${connections}`);
    if (target !== 'otpd' || goal === undefined || ratio === null) return [];
    const text = `${workload}, ${connections} connections: at least ${goal} x the floor`;
    return [{ text, measured: `${ratio.toFixed(2)} x`, isMet: ratio >= goal }];
  });
}

function cpuGoals(find: Find): Goal[] {
  return ['issue', 'verify'].flatMap((workload) => [64, 256].flatMap((connections) => {
    const cpuRatio = find(workload, connections)?.cpuRatio ?? null;
    if (cpuRatio === null) return [];
    const text = `${workload}, ${connections} connections: CPU at most ${CPU_RATIO_MAX} x the ` +
      'floor\'s';
    return [{ text, measured: `${cpuRatio.toFixed(2)} x`, isMet: cpuRatio <= CPU_RATIO_MAX }];
  }));
}

function floodGoal(find: Find): Goal[] {
  const alone = find('undisturbed', 64);
  const flooded = find('flooded', 64);
  if (alone === undefined || flooded === undefined) return [];
  const share = flooded.perSecond / alone.perSecond;
  const beside = (flooded.floodPerSecond ?? 0).toFixed(0);
  return [{
    text: `issue beside a flood on 4 times the connections: keeps at least ${KEPT_SHARE_MIN}`,
    measured: `${share.toFixed(2)} (${beside} refusals/s beside)`,
    isMet: share >= KEPT_SHARE_MIN,
  }];
}

function latencyGoal(find: Find): Goal[] {
  const ratio = find('issue', 1)?.p50Ratio ?? null;
  if (ratio === null) return [];
  const text = `issue, 1 connection: p50 at most ${ONE_CONNECTION_P50_RATIO_MAX} x the floor's`;
  const isMet = ratio <= ONE_CONNECTION_P50_RATIO_MAX;
  return [{ text, measured: `${ratio.toFixed(2)} x`, isMet }];
}

function baselineGoals(find: Find): Goal[] {
  return ['textbook', 'parts'].flatMap((name) => [64, 256].flatMap((connections) => {
    const ours = find('issue', connections);
    const theirs = find('issue', connections, name);
    if (ours === undefined || theirs === undefined) return [];
    const share = theirs.perSecond / ours.perSecond;
    const text = `issue, ${connections} connections: ${name} at most 1/8 of otpd`;
    const measured = `1/${(1 / share).toFixed(1)}`;
    return [{ text, measured, isMet: share <= BASELINE_SHARE_MAX }];
  }));
}

function extraGoals(
  { bigShare, bigInMemoryShare, oneAddressShare, slowProviderShare, growth }: Extras,
): Goal[] {
  const goals: Goal[] = [];
  const add = (text: string, value: number | null, isMet: (value: number) => boolean): void => {
    if (value !== null) goals.push({ text, measured: value.toFixed(2), isMet: isMet(value) });
  };
  add(`full tables: at least ${BIG_SHARE_MIN} of the speed with empty ones`, bigShare,
    (value) => value >= BIG_SHARE_MIN);
  add(`10,000 users at one address: at least ${ONE_ADDRESS_SHARE_MIN} of that speed`,
    oneAddressShare, (value) => value >= ONE_ADDRESS_SHARE_MIN);
  add('the same with memory for them (4 GB of buffer pool, 2 GB of redo log)', bigInMemoryShare,
    (value) => value >= BIG_SHARE_MIN);
  add('memory after a million requests over that before: about 1', growth,
    (value) => value <= GROWTH_MAX);
  add(`p99 with a provider that takes 5 s: at most ${SLOW_PROVIDER_MAX} x that with 1 ms`,
    slowProviderShare, (value) => value <= SLOW_PROVIDER_MAX);
  return goals;
}

function memoryGoals(rows: readonly SummaryRow[]): Goal[] {
  const resident = rows.filter(({ target, connections }) => target === 'otpd' && connections >= 256)
    .map(({ residentBytes }) => residentBytes);
  if (resident.length === 0) return [];
  const most = Math.max(...resident);
  return [{
    text: `memory at 256 connections: under ${RESIDENT_MAX_BYTES / 1e6} MB`,
    measured: `${(most / 1e6).toFixed(0)} MB`,
    isMet: most < RESIDENT_MAX_BYTES,
  }];
}

function errorGoal(rows: readonly SummaryRow[]): Goal {
  const errors = rows.filter(({ target }) => target === 'otpd')
    .reduce((sum, row) => sum + row.answers5xx + row.socketErrors, 0);
  return { text: 'no 5xx and no socket error', measured: String(errors), isMet: errors === 0 };
}
