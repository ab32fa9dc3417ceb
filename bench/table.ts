/** Results as Markdown tables and as the JSON of docs/performance.json. */
import { machineLine } from './machine.ts';
import type { Machine } from './machine.ts';
import type { Options } from './options.ts';
import { groupBy } from './summary.ts';
import type { SummaryRow } from './summary.ts';

/** What is written about a run. */
export type Report = Readonly<{
  machine: Machine;
  options: Options;
  /** Variables of otpd that the caller has set, such as WORKERS. */
  settings: Readonly<Record<string, string>>;
  rows: readonly SummaryRow[];
}>;

type Column = readonly [name: string, cell: (row: SummaryRow) => string];

const times = (ratio: number | null): string => (ratio === null ? '' : `${ratio.toFixed(2)} x`);

const COLUMNS: readonly Column[] = [
  ['connections', ({ connections }) => String(connections)],
  ['service', ({ target }) => (target === 'otpd' ? '**otpd**' : target)],
  ['to the floor', ({ ratio }) => times(ratio)],
  ['requests/s', ({ perSecond }) => perSecond.toFixed(0)],
  ['p50 ms', ({ p50Us }) => (p50Us / 1000).toFixed(1)],
  ['p99 ms', ({ p99Us }) => (p99Us / 1000).toFixed(1)],
  ['CPU µs, Node + mysqld', ({ nodeCpuUs, mysqldCpuUs }) =>
    `${nodeCpuUs.toFixed(0)} + ${mysqldCpuUs.toFixed(0)}`],
  ['CPU to the floor', ({ cpuRatio }) => times(cpuRatio)],
  ['statements', ({ statements }) => statements.toFixed(2)],
  ['bytes redo / binlog / all', ({ redoBytes, binlogBytes, dataBytes }) =>
    [redoBytes, binlogBytes, dataBytes + binlogBytes].map((bytes) => bytes.toFixed(0)).join(' / ')],
  ['MB resident', ({ residentBytes }) => (residentBytes / 1e6).toFixed(0)],
];

/** A ratio under this fails the comparison: noise of 12 rounds on an idle machine is less. */
const RATIO_MIN = 0.97;

/** The tables of all workloads, with the machine and every error above them. */
export function composeTables(report: Report): string {
  return [
    describeRun(report),
    ...report.rows.filter(({ errors }) => errors > 0).map((row) =>
      `> **WARNING: ${row.target}, ${row.workload}, ${row.connections} connections: ` +
      `${row.errors} responses of 5xx or broken connections.**\n`),
    ...[...groupBy(report.rows, ({ workload }) => workload)].map(([workload, rows]) =>
      `### ${workload}\n\n${markdown(COLUMNS.map(([name]) => name),
        rows.map((row) => COLUMNS.map(([, cell]) => cell(row))))}`),
  ].join('\n');
}

function describeRun({ machine, options, settings }: Report): string {
  const { plan, poolSize, isWhole, against } = options;
  const set = Object.entries(settings).map(([name, value]) => `${name}=${value}`).join(', ');
  return `${machineLine(machine)}\n${plan.rounds} rounds of ${plan.seconds} s each, after a ` +
    `warm-up; medians over the rounds. Pool of each baseline: ${poolSize}.` +
    `${set === '' ? '' : ` otpd with ${set}.`}${isWhole || against !== null ? '' : ' **Part of the benchmark.**'}\n`;
}

/** Throughput, latency and cost relative to the service that is compared with. */
export function composeComparison(report: Report): string {
  const { against, isGroup } = report.options;
  const pairs = [...groupBy(report.rows, ({ workload, connections }) =>
    `${workload} ${connections}`).values()].flatMap((group) => {
    const base = group.find(({ target }) => target === (isGroup ? 'otpd' : 'base'));
    return base === undefined ? [] : group.filter((row) => row !== base)
      .map((candidate) => ({ base, candidate }));
  });
  const cpu = ({ nodeCpuUs, mysqldCpuUs }: SummaryRow): number => nodeCpuUs + mysqldCpuUs;
  const lines = pairs.map(({ base, candidate }) => [
    candidate.workload, String(candidate.connections), candidate.target,
    String(candidate.rounds),
    base.perSecond.toFixed(0), candidate.perSecond.toFixed(0),
    `${(candidate.perSecond / base.perSecond).toFixed(3)}`,
    `${(candidate.p50Us / base.p50Us).toFixed(2)}`, `${(candidate.p99Us / base.p99Us).toFixed(2)}`,
    `${(cpu(candidate) / cpu(base)).toFixed(2)}`,
    `${(base.residentBytes / 1e6).toFixed(0)} / ${(candidate.residentBytes / 1e6).toFixed(0)}`,
    `${base.errors} / ${candidate.errors}`,
  ]);
  const lowest = Math.min(...pairs.map(({ base, candidate }) =>
    candidate.perSecond / base.perSecond));
  const head = `${describeRun(report)}\nBase is ${against ?? 'otpd on one node'}. Ratios are ` +
    'median of the service / median of the base.\n\n';
  const page = head + markdown(['workload', 'connections', 'service', 'rounds', 'base/s',
    'this/s', 'throughput', 'p50', 'p99', 'CPU', 'MB resident', 'errors'], lines);
  return isGroup ? page : `${page}\nLowest throughput ratio: ${lowest.toFixed(3)} ` +
    `(${lowest >= RATIO_MIN ? 'at least' : 'UNDER'} ${RATIO_MIN}).\n`;
}

/** The medians as JSON with one line per row. */
export function composeJson({ machine, options: { plan, poolSize }, rows }: Report): string {
  const round = (value: number | null, digits: number): number | null =>
    (value === null ? null : Number(value.toFixed(digits)));
  const run = { ...machine, rounds: plan.rounds, seconds: plan.seconds, poolSize };
  const lines = rows.map((row) => JSON.stringify({
    workload: row.workload, connections: row.connections, service: row.target,
    perSecond: round(row.perSecond, 0), ratioToFloor: round(row.ratio, 2),
    p50Ms: round(row.p50Us / 1000, 1), p99Ms: round(row.p99Us / 1000, 1),
    nodeCpuUs: round(row.nodeCpuUs, 0), mysqldCpuUs: round(row.mysqldCpuUs, 0),
    cpuRatioToFloor: round(row.cpuRatio, 2), statements: round(row.statements, 2),
    redoBytes: round(row.redoBytes, 0), binlogBytes: round(row.binlogBytes, 0),
    residentMb: round(row.residentBytes / 1e6, 0), errors: row.errors,
  }));
  return `{"run":${JSON.stringify(run)},\n"medians":[\n${lines.join(',\n')}\n]}\n`;
}

/** A Markdown table. */
export function markdown(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...lines.map(line), ''].join('\n');
}
