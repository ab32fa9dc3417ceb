/** What the soak has found, as a page and as a chart. */
import { STYLE } from '../chart.ts';
import type { Machine } from '../machine.ts';
import { median } from '../summary.ts';
import { markdown } from '../table.ts';
import type { Second } from './tally.ts';

/** What became of the service in one fault. */
export type Injury = Readonly<{
  name: string;
  /** Milliseconds since the beginning of the soak. */
  beganMs: number;
  endedMs: number;
  /** From the end of the fault to the first good answer; null: none came before the next. */
  recoveryMs: number | null;
  /** The longest time without a good answer, the fault itself included. */
  longestGapMs: number;
  unavailable: number;
  broken: number;
  /** Connections that MySQL has of otpd just before the next fault. */
  connections: number;
}>;

/** Resident bytes at one moment; of the workers the greatest. */
export type Memory = Readonly<{ first: number; worker: number; mysqld: number }>;

/** All that is told. */
export type Findings = Readonly<{
  machine: Machine;
  minutes: number;
  workers: number;
  capacity: number;
  rate: number;
  answers: number;
  slowestMs: number;
  issued: number;
  redeemed: number;
  lateCodes: number;
  wrongCount: number;
  wrong: readonly string[];
  lost: number;
  /** Codes that MySQL has, over the points that it has counted for them: equal. */
  codes: number;
  points: number;
  injuries: readonly Injury[];
  seconds: readonly Second[];
  memory: readonly Memory[];
}>;

const seconds = (ms: number): string => (ms / 1000).toFixed(2);
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

/** The middle of a part of the samples. */
function middle(memory: readonly Memory[], pick: (one: Memory) => number, third: number): number {
  const size = Math.floor(memory.length / 3);
  return median(memory.slice(third * size, (third + 1) * size).map(pick));
}

/** Memory in the last third over that in the second: 1 when it is flat. */
export function growthOf(memory: readonly Memory[]): number {
  const worker = ({ worker: bytes }: Memory): number => bytes;
  return middle(memory, worker, 2) / middle(memory, worker, 1);
}

/** Writes the page. */
export function composePage(found: Findings): string {
  const { machine: { cores, cpu, system, node, mysql }, memory } = found;
  const memoryRow = (name: string, pick: (one: Memory) => number): string[] =>
    [name, ...[0, 1, 2].map((third) => megabytes(middle(memory, pick, third)))];
  return `# The soak

${cores} cores (${cpu}), ${system}; Node ${node}, MySQL ${mysql}, otpd with ${found.workers}
workers. ${found.minutes} minutes of codes issued, repeated, tried wrong, redeemed, redeemed twice
and refused, at ${found.rate.toFixed(0)} requests a second: 70 % of the
${found.capacity.toFixed(0)} that were answered at the start. MySQL, otpd, the load and its model
share the cores.

![Good answers a second, and the faults](soak.svg)

| | |
| --- | --- |
| answers, each held to the model | ${found.answers} |
| wrong answers | ${found.wrongCount} |
| acknowledged 201 and 200, looked up in MySQL at the end | ${found.issued} and ${found.redeemed} |
| of them lost | ${found.lost} |
| codes stored, and points counted for them | ${found.codes} and ${found.points} |
| codes whose message came later than 1.5 s | ${found.lateCodes} |
| the slowest answer | ${seconds(found.slowestMs)} s |
${found.wrong.map((text) => `| wrong | ${text.replaceAll('|', '/')} |\n`).join('')}
## Faults

Recovery is the time from the end of the fault to the first good answer. 503 and broken connections
are those between the beginning of a fault and of the next; clients repeat what was not answered.

${markdown(['fault', 'at, s', 'lasted, s', 'recovery, s', 'longest without a good answer, s', '503',
    'broken', 'connections to MySQL after'], found.injuries.map((one) => [
    one.name, (one.beganMs / 1000).toFixed(0), seconds(one.endedMs - one.beganMs),
    one.recoveryMs === null ? '**none**' : seconds(one.recoveryMs), seconds(one.longestGapMs),
    String(one.unavailable), String(one.broken), String(one.connections)]))}
## Memory

MB resident, medians over the thirds of the soak. A worker that was killed begins anew.

${markdown(['process', 'first third', 'second', 'last'], [
    memoryRow('the first process', ({ first }) => first),
    memoryRow('the greatest worker', ({ worker }) => worker),
    memoryRow('mysqld', ({ mysqld }) => mysqld),
  ])}`;
}

const LEFT_PX = 60;
const PLOT_PX = 900;
const HEIGHT_PX = 220;
const TOP_PX = 40;
const BAR_PX = 14;

/** Draws good answers and 503s a second over time, and the recovery of each fault below. */
export function composeSoakChart({ seconds: all, injuries }: Findings): string {
  const most = Math.max(1, ...all.map(({ good }) => good));
  const length = Math.max(1, all.length);
  const xOf = (second: number): number => LEFT_PX + (PLOT_PX * second) / length;
  const yOf = (count: number): number => TOP_PX + HEIGHT_PX * (1 - Math.min(1, count / most));
  const line = (pick: (second: Second) => number): string =>
    all.map((second, at) => `${xOf(at).toFixed(1)},${yOf(pick(second)).toFixed(1)}`).join(' ');
  const longest = Math.max(0.1, ...injuries.map(({ recoveryMs }) => (recoveryMs ?? 0) / 1000));
  const below = TOP_PX + HEIGHT_PX + 60;
  const bars = injuries.map(({ name, recoveryMs }, at) => {
    const width = (300 * (recoveryMs ?? 0)) / 1000 / longest;
    const y = below + at * (BAR_PX + 4);
    return `<rect class="otpd" x="${LEFT_PX}" y="${y}" width="${Math.max(1, width).toFixed(1)}" ` +
      `height="${BAR_PX}"/><text x="${(LEFT_PX + width + 6).toFixed(1)}" y="${y + 11}">` +
      `${recoveryMs === null ? 'none' : `${seconds(recoveryMs)} s`}: ${name}</text>`;
  });
  const shades = injuries.map(({ beganMs, endedMs }) => {
    const [from, to] = [xOf(beganMs / 1000), xOf(endedMs / 1000)];
    return `<rect x="${from.toFixed(1)}" y="${TOP_PX}" height="${HEIGHT_PX}" ` +
      `width="${Math.max(1.5, to - from).toFixed(1)}" fill="#d9480f" opacity="0.25"/>`;
  });
  const height = below + injuries.length * (BAR_PX + 4) + 10;
  const width = LEFT_PX + PLOT_PX + 20;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"
  width="${width}" height="${height}" role="img" aria-label="Good answers a second, and the faults">
${STYLE}
<text class="title" x="8" y="20">Good answers a second (blue), 503 (yellow), faults (shaded)</text>
<text x="${LEFT_PX - 8}" y="${TOP_PX + 8}" text-anchor="end">${most}</text>
<text x="${LEFT_PX - 8}" y="${TOP_PX + HEIGHT_PX}" text-anchor="end">0</text>
<text x="${LEFT_PX + PLOT_PX}" y="${TOP_PX + HEIGHT_PX + 18}" text-anchor="end">${length} s</text>
${shades.join('\n')}
<polyline points="${line(({ good }) => good)}" fill="none" stroke="#2f74c0" stroke-width="1.5"/>
<polyline points="${line(({ unavailable }) => unavailable)}" fill="none" stroke="#c9a227"/>
<text class="title" x="8" y="${below - 12}">From the end of a fault to the first good answer</text>
${bars.join('\n')}
</svg>
`;
}
