/** Medians over the rounds, and ratios to the floor of the same round. */
import type { Sample } from './rounds.ts';
import type { TargetName } from './target.ts';

/** One service in one workload at one number of connections. */
export type SummaryRow = Readonly<{
  workload: string;
  connections: number;
  target: TargetName;
  rounds: number;
  perSecond: number;
  /** Throughput relative to the floor in the same round; null without a floor. */
  ratio: number | null;
  /** CPU of Node and mysqld relative to the floor in the same round. */
  cpuRatio: number | null;
  p50Us: number;
  p99Us: number;
  nodeCpuUs: number;
  mysqldCpuUs: number;
  statements: number;
  redoBytes: number;
  binlogBytes: number;
  dataBytes: number;
  /** The maximum of all rounds. */
  residentBytes: number;
  /** Responses of 5xx and broken connections, summed over the rounds. */
  errors: number;
}>;

/** The middle value, or the mean of the two middle values; NaN for an empty list. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = NaN, high = NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

/** Groups items by a key, both in the order of their first appearance. */
export function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

/** One row for each workload, number of connections and service. */
export function summarise(samples: readonly Sample[]): SummaryRow[] {
  const groups = groupBy(samples, ({ workload, connections, target }) =>
    `${workload} ${connections} ${target}`);
  return [...groups.values()].map((group) => summariseGroup(group, samples));
}

function summariseGroup(group: readonly Sample[], all: readonly Sample[]): SummaryRow {
  const { workload, connections, target } = group[0]!;
  const middle = (value: (sample: Sample) => number): number => median(group.map(value));
  return {
    workload, connections, target,
    rounds: group.length,
    perSecond: middle((sample) => sample.perSecond),
    ratio: ratioToFloor(group, all, (sample) => sample.perSecond),
    cpuRatio: ratioToFloor(group, all, ({ nodeCpuUs, mysqldCpuUs }) => nodeCpuUs + mysqldCpuUs),
    p50Us: middle((sample) => sample.p50Us),
    p99Us: middle((sample) => sample.p99Us),
    nodeCpuUs: middle((sample) => sample.nodeCpuUs),
    mysqldCpuUs: middle((sample) => sample.mysqldCpuUs),
    statements: middle((sample) => sample.statements),
    redoBytes: middle((sample) => sample.redoBytes),
    binlogBytes: middle((sample) => sample.binlogBytes),
    dataBytes: middle((sample) => sample.dataBytes),
    residentBytes: Math.max(...group.map((sample) => sample.residentBytes)),
    errors: group.reduce((sum, sample) => sum + sample.answers5xx + sample.socketErrors, 0),
  };
}

/** The median of the ratios of each round, which a slow minute of the machine hardly moves. */
function ratioToFloor(
  group: readonly Sample[],
  all: readonly Sample[],
  value: (sample: Sample) => number,
): number | null {
  const ratios = group.flatMap((sample) => {
    const floor = all.find((other) => other.target === 'floor' && other.round === sample.round
      && other.workload === sample.workload && other.connections === sample.connections);
    return floor === undefined ? [] : [value(sample) / value(floor)];
  });
  return ratios.length === 0 ? null : median(ratios);
}
