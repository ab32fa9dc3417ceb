/** The results as Markdown. */
import type { Extras } from './extras.ts';
import type { Goal } from './goals.ts';
import type { Machine } from './machine.ts';
import type { Options } from './options.ts';
import type { SummaryRow } from './summary.ts';

/** All that is written about a run. */
export type Report = Readonly<{
  machine: Machine;
  options: Options;
  /** Variables of otpd that the caller had set, such as WORKERS. */
  settings: Readonly<Record<string, string>>;
  rows: readonly SummaryRow[];
  goals: readonly Goal[];
  extras: Extras;
}>;

type Column = readonly [string, (row: SummaryRow) => string];

const COLUMNS: readonly Column[] = [
  ['connections', ({ connections }) => String(connections)],
  ['service', ({ target }) => (target === 'otpd' ? '**otpd**' : target)],
  ['to the floor', ({ ratio }) => (ratio === null ? '' : `${ratio.toFixed(2)} x`)],
  ['requests/s', ({ perSecond }) => perSecond.toFixed(0)],
  ['p50 ms', ({ p50Us }) => (p50Us / 1000).toFixed(1)],
  ['p99 ms', ({ p99Us }) => (p99Us / 1000).toFixed(1)],
  ['CPU µs Node + mysqld', ({ nodeCpuUs, mysqldCpuUs }) =>
    `${nodeCpuUs.toFixed(0)} + ${mysqldCpuUs.toFixed(0)}`],
  ['CPU to the floor', ({ cpuRatio }) => (cpuRatio === null ? '' : `${cpuRatio.toFixed(2)} x`)],
  ['statements', ({ statements }) => statements.toFixed(2)],
  ['bytes redo / binlog / all', ({ redoBytes, binlogBytes, dataBytes }) =>
    [redoBytes, binlogBytes, dataBytes + binlogBytes].map((bytes) => bytes.toFixed(0)).join(' / ')],
  ['MB resident', ({ residentBytes }) => (residentBytes / 1e6).toFixed(0)],
  ['2xx / 4xx / 5xx / broken', (row) =>
    [row.answers2xx, row.answers4xx, row.answers5xx, row.socketErrors].join(' / ')],
];

/** What a reader would else misread. */
const NOTES: ReadonlyMap<string, string> = new Map([
  ['undisturbed', 'The good requests (issue) alone, to compare the next table with.\n\n'],
  ['flooded', 'The same beside a flood of requests that are refused, on four times the ' +
    'connections. Throughput and latency are those of the good requests; the costs per request ' +
    'include the flood.\n\n'],
]);

/** Writes the report as a Markdown page. */
export function composeTable(report: Report): string {
  const workloads = [...new Set(report.rows.map(({ workload }) => workload))];
  return [
    '# Results of the benchmark\n',
    describeRun(report),
    warning(report.rows),
    '![Throughput over that of the floor](chart.svg)\n',
    '## Goals\n',
    markdown(['goal', 'measured', 'met'], report.goals.map(({ text, measured, isMet }) =>
      [text, measured, isMet ? 'yes' : '**no**'])),
    ...workloads.map((workload) => section(workload, report.rows)),
    memorySection(report.extras),
  ].filter((part) => part !== '').join('\n');
}

function describeRun({ machine, options, settings }: Report): string {
  const { cores, cpu, memoryGb, system, node, mysql, load, syncUs } = machine;
  const { plan, isPartial, poolSize } = options;
  const set = Object.entries(settings).map(([name, value]) => `${name}=${value}`).join(', ');
  return `${cores} cores (${cpu}), ${memoryGb} GB, ${system}; Node ${node}, MySQL ${mysql}, ` +
    `load by ${load} on the same cores; a durable write takes ${syncUs} µs (median fsync).\n` +
    `${plan.rounds} rounds of ${plan.seconds} s each after a warm-up; medians over the rounds` +
    `${isPartial ? ' (**a partial run: indicative only**)' : ''}. Pool of each baseline: ` +
    `${poolSize}.${set === '' ? '' : ` otpd with ${set}.`} What each number means: ` +
    'see bench/README.md.\n';
}

function warning(rows: readonly SummaryRow[]): string {
  const bad = rows.filter(({ answers5xx, socketErrors }) => answers5xx + socketErrors > 0);
  return bad.map(({ workload, connections, target, answers5xx, socketErrors }) =>
    `> **WARNING: ${target}, ${workload}, ${connections} connections: ${answers5xx} answers of ` +
    `5xx, ${socketErrors} broken.**\n`).join('>\n');
}

function section(workload: string, rows: readonly SummaryRow[]): string {
  const own = rows.filter((row) => row.workload === workload);
  const lines = own.map((row) => COLUMNS.map(([, cell]) => cell(row)));
  const note = NOTES.get(workload) ?? '';
  return `## ${workload}\n\n${note}${markdown(COLUMNS.map(([name]) => name), lines)}`;
}

function memorySection({ memory }: Extras): string {
  if (memory.length === 0) return '';
  const lines = memory.map(({ requests, residentBytes }) =>
    [String(requests), (residentBytes / 1e6).toFixed(0)]);
  return `## memory over a million requests\n\n${markdown(['requests', 'MB resident'], lines)}`;
}

/** A table in Markdown. */
export function markdown(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...lines.map(line), ''].join('\n');
}
