/** From samples to rows: the median over the rounds, and the ratio to the floor of each round. */
import type { Sample } from './rounds.ts';
import type { TargetName } from './target.ts';

/** One service in one workload at one number of connections; medians over the rounds. */
export type SummaryRow = Readonly<{
  workload: string;
  connections: number;
  target: TargetName;
  rounds: number;
  perSecond: number;
  /** Throughput over that of the floor in the same round; null without a floor. */
  ratio: number | null;
  /** CPU of Node and mysqld over that of the floor in the same round. */
  cpuRatio: number | null;
  /** p50 over that of the floor in the same round. */
  p50Ratio: number | null;
  p50Us: number;
  p99Us: number;
  nodeCpuUs: number;
  mysqldCpuUs: number;
  statements: number;
  redoBytes: number;
  binlogBytes: number;
  dataBytes: number;
  receivedBytes: number;
  /** The greatest of all rounds. */
  residentBytes: number;
  floodPerSecond: number | null;
  /** Sums over the rounds. */
  answers2xx: number;
  answers4xx: number;
  answers5xx: number;
  socketErrors: number;
}>;

/** The middle value, or the mean of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = NaN, high = NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

/** The members of a list by a key of theirs, in the order of their first. */
export function groupBy<T>(list: readonly T[], keyOf: (member: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const member of list) {
    const key = keyOf(member);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [member]);
    else group.push(member);
  }
  return groups;
}

/** Groups samples by workload, connections and service, in the order of their first sample. */
export function summarise(samples: readonly Sample[]): SummaryRow[] {
  const groups = groupBy(samples, ({ workload, connections, target }) =>
    `${workload} ${connections} ${target}`);
  return [...groups.values()].map((group) => summariseGroup(group, samples));
}

function summariseGroup(group: readonly Sample[], all: readonly Sample[]): SummaryRow {
  const first = group[0]!;
  const middle = (value: (sample: Sample) => number): number => median(group.map(value));
  const sum = (value: (sample: Sample) => number): number =>
    group.reduce((total, sample) => total + value(sample), 0);
  const flood = middle(({ floodPerSecond }) => floodPerSecond ?? NaN);
  return {
    workload: first.workload,
    connections: first.connections,
    target: first.target,
    rounds: group.length,
    perSecond: middle((sample) => sample.perSecond),
    ratio: ratioToFloor(group, all, (sample) => sample.perSecond),
    cpuRatio: ratioToFloor(group, all, cpuUs),
    p50Ratio: ratioToFloor(group, all, (sample) => sample.p50Us),
    p50Us: middle((sample) => sample.p50Us),
    p99Us: middle((sample) => sample.p99Us),
    nodeCpuUs: middle((sample) => sample.nodeCpuUs),
    mysqldCpuUs: middle((sample) => sample.mysqldCpuUs),
    statements: middle((sample) => sample.statements),
    redoBytes: middle((sample) => sample.redoBytes),
    binlogBytes: middle((sample) => sample.binlogBytes),
    dataBytes: middle((sample) => sample.dataBytes),
    receivedBytes: middle((sample) => sample.receivedBytes),
    residentBytes: Math.max(...group.map((sample) => sample.residentBytes)),
    floodPerSecond: Number.isNaN(flood) ? null : flood,
    answers2xx: sum((sample) => sample.answers2xx),
    answers4xx: sum((sample) => sample.answers4xx),
    answers5xx: sum((sample) => sample.answers5xx),
    socketErrors: sum((sample) => sample.socketErrors),
  };
}

function cpuUs({ nodeCpuUs, mysqldCpuUs }: Sample): number {
  return nodeCpuUs + mysqldCpuUs;
}

/** Round by round, then the median: a slow minute of the machine touches both sides. */
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
