/** What the profile has found, as a page. */
import type { Machine } from '../machine.ts';
import type { Measured } from '../lab.ts';
import { markdown } from '../table.ts';
import { lineThrough } from './lists.ts';
import type { ListCost } from './lists.ts';
import { PART_NAMES } from './node-parts.ts';
import type { PartTime } from './node-parts.ts';
import type { FlushTime, StatementTime } from './statements.ts';

/** One workload on one service. Times of parts and statements are sums, in microseconds. */
export type Profiled = Readonly<{
  name: string;
  measured: Measured;
  /** Of all cores, while the load ran. */
  idleShare: number;
  parts: ReadonlyMap<string, PartTime>;
  statements: readonly StatementTime[];
  flushes: readonly FlushTime[];
}>;

/** All that was found. */
export type Findings = Readonly<{
  machine: Machine;
  connections: number;
  seconds: number;
  lists: readonly ListCost[];
  profiles: readonly Profiled[];
}>;

/** Less than this for a request is not told. */
const TOLD_MIN_US = 0.5;

/** Writes the findings as a Markdown page. */
export function composePage(findings: Findings): string {
  const { machine, connections, seconds, profiles } = findings;
  const { cores, cpu, system, node, mysql, syncUs } = machine;
  return `# Where the time goes

${cores} cores (${cpu}), ${system}; Node ${node}, MySQL ${mysql}; a durable write takes ${syncUs} µs
(median fsync). Written by \`npm run profile\`: see bench/README.md.

## A list by its length

Lists of requests of new users, one after the other, issued by the code of otpd in one process: no
HTTP, no load beside it. CPU in µs; what sleeping and waking cost is in it.

${listsTable(findings.lists)}
${describeLines(findings.lists)}

## Under load: ${connections} connections for ${seconds} s

${markdown(['', ...profiles.map(({ name }) => name)], overview(profiles))}
### Node's main thread, µs a request

Of each part: its own functions + those of Node and the system that they called.

${markdown(['', ...profiles.map(({ name }) => name)], nodeRows(profiles))}
### mysqld, µs of CPU a request

${markdown(['', ...profiles.map(({ name }) => name)], statementRows(profiles))}
### Waiting, ms each

${markdown(['', ...profiles.map(({ name }) => name)], waitRows(profiles))}`;
}

function listsTable(lists: readonly ListCost[]): string {
  const rows = lists.map(({ size, wallMs, nodeUs, mysqldUs }) => [
    String(size), wallMs.toFixed(1), `${nodeUs.toFixed(0)} + ${mysqldUs.toFixed(0)}`,
    `${(nodeUs / size).toFixed(0)} + ${(mysqldUs / size).toFixed(0)}`,
  ]);
  return markdown(['codes', 'ms a list', 'a list, Node + mysqld', 'a code, Node + mysqld'], rows);
}

function describeLines(lists: readonly ListCost[]): string {
  const [node, mysqld] = [
    lineThrough(lists, ({ nodeUs }) => nodeUs), lineThrough(lists, ({ mysqldUs }) => mysqldUs),
  ];
  const describe = ({ list, code }: { list: number; code: number }): string =>
    `${list.toFixed(0)} for a list and ${code.toFixed(0)} for each code of it`;
  return `The straight lines through them: Node ${describe(node)},
mysqld ${describe(mysqld)}.`;
}

type Cell = (profiled: Profiled) => string;

function row(name: string, profiles: readonly Profiled[], cell: Cell): string[] {
  return [name, ...profiles.map(cell)];
}

function overview(profiles: readonly Profiled[]): string[][] {
  const of = (name: string, pick: (measured: Measured) => string): string[] =>
    row(name, profiles, ({ measured }) => pick(measured));
  return [
    of('requests/s', ({ perSecond }) => perSecond.toFixed(0)),
    of('p50 ms', ({ p50Us }) => (p50Us / 1000).toFixed(1)),
    of('CPU µs, Node + mysqld', ({ nodeCpuUs, mysqldCpuUs }) =>
      `${nodeCpuUs.toFixed(0)} + ${mysqldCpuUs.toFixed(0)}`),
    of('requests a commit', ({ commits }) => (commits === 0 ? '' : (1 / commits).toFixed(0))),
    row('cores idle', profiles, ({ idleShare }) => `${(100 * idleShare).toFixed(0)} %`),
  ];
}

function nodeRows(profiles: readonly Profiled[]): string[][] {
  const each = (time: number, { measured }: Profiled): string =>
    (time / measured.requests).toFixed(0);
  const rows = PART_NAMES.map((part) => row(part, profiles, (profiled) => {
    const { own, beneath } = profiled.parts.get(part) ?? { own: 0, beneath: 0 };
    const ofNode = beneath === 0 ? '' : ` + ${each(beneath, profiled)}`;
    return own + beneath === 0 ? '' : `${each(own, profiled)}${ofNode}`;
  }));
  const others = row('other threads: collecting, compiling', profiles, (profiled) => {
    const { parts, measured } = profiled;
    const main = [...parts.values()].reduce((sum, { own, beneath }) => sum + own + beneath, 0);
    return Math.max(0, measured.nodeCpuUs - main / measured.requests).toFixed(0);
  });
  return [...rows, others];
}

function statementRows(profiles: readonly Profiled[]): string[][] {
  const labels = new Set(profiles.flatMap(({ statements, measured: { requests } }) =>
    statements.filter(({ cpuUs }) => cpuUs / requests >= TOLD_MIN_US).map(({ label }) => label)));
  const costOf = ({ statements, measured }: Profiled, label: string): number =>
    (statements.find((one) => one.label === label)?.cpuUs ?? 0) / measured.requests;
  const rows = [...labels].map((label) => row(label, profiles, (profiled) => {
    const cost = costOf(profiled, label);
    return cost === 0 ? '' : cost.toFixed(0);
  }));
  const besides = row('beside statements: connections, flushing pages, purging', profiles,
    ({ statements, measured: { requests, mysqldCpuUs } }) => {
      const counted = statements.reduce((sum, { cpuUs }) => sum + cpuUs, 0);
      return Math.max(0, mysqldCpuUs - counted / requests).toFixed(0);
    });
  return [...rows, besides];
}

function waitRows(profiles: readonly Profiled[]): string[][] {
  const mean = ({ count, wallUs }: { count: number; wallUs: number }): string =>
    count === 0 ? '' : (wallUs / count / 1000).toFixed(1);
  const none = { count: 0, wallUs: 0, cpuUs: 0 };
  const commitOf = ({ statements }: Profiled) =>
    statements.find(({ label }) => label === 'COMMIT') ?? none;
  return [
    row('COMMIT', profiles, (profiled) => mean(commitOf(profiled))),
    row('of it CPU', profiles, (profiled) => {
      const { count, cpuUs } = commitOf(profiled);
      return mean({ count, wallUs: cpuUs });
    }),
    ...['binlog', 'innodb_log_file'].map((file) =>
      row(`a flush of ${file}`, profiles, (profiled) => (commitOf(profiled).count === 0 ? ''
        : mean(profiled.flushes.find((flush) => flush.file === file) ?? none)))),
  ];
}
