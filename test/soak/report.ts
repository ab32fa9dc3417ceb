/** The findings of the soak as a Markdown page and an SVG chart. */
import { STYLE } from '../../bench/chart.ts';
import { machineLine } from '../../bench/machine.ts';
import type { Machine } from '../../bench/machine.ts';
import { median } from '../../bench/summary.ts';
import { markdown } from '../../bench/table.ts';
import type { Second } from './observations.ts';

/** One fault and how the service behaved. */
export type FaultOutcome = Readonly<{
  name: string;
  /** Milliseconds since the start of the soak. */
  beganMs: number;
  endedMs: number;
  /** From the end of the fault to the first good response; null if none preceded the next fault. */
  recoveryMs: number | null;
  /** The longest time without a good response, the fault included. */
  longestGapMs: number;
  unavailable: number;
  broken: number;
  /** Open connections of otpd right before the next fault. */
  connections: number;
}>;

/** Resident bytes at one moment; `worker` is the largest worker. */
export type Memory = Readonly<{ primary: number; worker: number; mysqld: number }>;

/** Everything that the page and the chart show. */
export type Findings = Readonly<{
  machine: Machine;
  minutes: number;
  workers: number;
  capacity: number;
  rate: number;
  responses: number;
  slowestMs: number;
  issued: number;
  redeemed: number;
  lateCodes: number;
  wrongCount: number;
  wrong: readonly string[];
  lost: number;
  /** Codes and points that MySQL stores; they must be equal. */
  codes: number;
  points: number;
  outcomes: readonly FaultOutcome[];
  seconds: readonly Second[];
  memory: readonly Memory[];
}>;

const seconds = (ms: number): string => (ms / 1000).toFixed(2);
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

/** The median of one third of the samples. */
function middle(memory: readonly Memory[], pick: (one: Memory) => number, third: number): number {
  const size = Math.floor(memory.length / 3);
  return median(memory.slice(third * size, (third + 1) * size).map(pick));
}

/** Memory of the workers in the last third relative to the second: 1 when it is flat. */
export function growthOf(memory: readonly Memory[]): number {
  const worker = ({ worker: bytes }: Memory): number => bytes;
  return middle(memory, worker, 2) / middle(memory, worker, 1);
}

export function composePage(found: Findings): string {
  const { machine, memory } = found;
  const memoryRow = (name: string, pick: (one: Memory) => number): string[] =>
    [name, ...[0, 1, 2].map((third) => megabytes(middle(memory, pick, third)))];
  return `# The soak

${machineLine(machine)} otpd has ${found.workers} workers.
${found.minutes} minutes at ${found.rate.toFixed(0)} requests per second, 70 % of the capacity of
${found.capacity.toFixed(0)}. MySQL, otpd, the load and its model share the cores.

![Good responses per second and the faults](soak.svg)

| | |
| --- | --- |
| responses, each compared with the model | ${found.responses} |
| wrong responses | ${found.wrongCount} |
| acknowledged by 201 and by 200, looked up at the end | ${found.issued} and ${found.redeemed} |
| lost | ${found.lost} |
| codes and points stored | ${found.codes} and ${found.points} |
| codes whose message took more than 1.5 s | ${found.lateCodes} |
| slowest response | ${seconds(found.slowestMs)} s |
${found.wrong.map((text) => `| wrong | ${text.replaceAll('|', '/')} |\n`).join('')}
## Faults

Recovery is the time from the end of a fault to the first good response. 503 and broken connections
are counted from the start of a fault to the start of the next; clients repeat these requests.

${markdown(['fault', 'at, s', 'took, s', 'recovery, s', 'longest gap, s', '503', 'broken',
    'connections after'], found.outcomes.map((one) => [
    one.name, (one.beganMs / 1000).toFixed(0), seconds(one.endedMs - one.beganMs),
    one.recoveryMs === null ? '**none**' : seconds(one.recoveryMs), seconds(one.longestGapMs),
    String(one.unavailable), String(one.broken), String(one.connections)]))}
## Memory

MB resident, medians of each third of the soak. A killed worker is replaced by a new process.

${markdown(['process', 'first third', 'second', 'last'], [
    memoryRow('primary', ({ primary }) => primary),
    memoryRow('largest worker', ({ worker }) => worker),
    memoryRow('mysqld', ({ mysqld }) => mysqld),
  ])}`;
}

const LEFT_PX = 60;
const PLOT_PX = 900;
const HEIGHT_PX = 220;
const TOP_PX = 40;
const BAR_PX = 14;

/** Draws good responses and 503 over time, and below them the recovery after each fault. */
export function composeSoakChart({ seconds: all, outcomes }: Findings): string {
  const most = Math.max(1, ...all.map(({ good }) => good));
  const length = Math.max(1, all.length);
  const xOf = (second: number): number => LEFT_PX + (PLOT_PX * second) / length;
  const yOf = (count: number): number => TOP_PX + HEIGHT_PX * (1 - Math.min(1, count / most));
  const line = (pick: (second: Second) => number): string =>
    all.map((second, at) => `${xOf(at).toFixed(1)},${yOf(pick(second)).toFixed(1)}`).join(' ');
  const longest = Math.max(0.1, ...outcomes.map(({ recoveryMs }) => (recoveryMs ?? 0) / 1000));
  const below = TOP_PX + HEIGHT_PX + 60;
  const bars = outcomes.map(({ name, recoveryMs }, at) => {
    const width = (300 * (recoveryMs ?? 0)) / 1000 / longest;
    const y = below + at * (BAR_PX + 4);
    return `<rect class="otpd" x="${LEFT_PX}" y="${y}" width="${Math.max(1, width).toFixed(1)}" ` +
      `height="${BAR_PX}"/><text x="${(LEFT_PX + width + 6).toFixed(1)}" y="${y + 11}">` +
      `${recoveryMs === null ? 'none' : `${seconds(recoveryMs)} s`}: ${name}</text>`;
  });
  const shades = outcomes.map(({ beganMs, endedMs }) => {
    const [from, to] = [xOf(beganMs / 1000), xOf(endedMs / 1000)];
    return `<rect x="${from.toFixed(1)}" y="${TOP_PX}" height="${HEIGHT_PX}" ` +
      `width="${Math.max(1.5, to - from).toFixed(1)}" fill="#d9480f" opacity="0.25"/>`;
  });
  const height = below + outcomes.length * (BAR_PX + 4) + 10;
  const width = LEFT_PX + PLOT_PX + 20;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"
  width="${width}" height="${height}" role="img" aria-label="Good responses and faults">
${STYLE}
<text class="title" x="8" y="20">Good responses/s (blue), 503/s (yellow), faults (shaded)</text>
<text x="${LEFT_PX - 8}" y="${TOP_PX + 8}" text-anchor="end">${most}</text>
<text x="${LEFT_PX - 8}" y="${TOP_PX + HEIGHT_PX}" text-anchor="end">0</text>
<text x="${LEFT_PX + PLOT_PX}" y="${TOP_PX + HEIGHT_PX + 18}" text-anchor="end">${length} s</text>
${shades.join('\n')}
<polyline points="${line(({ good }) => good)}" fill="none" stroke="#2f74c0" stroke-width="1.5"/>
<polyline points="${line(({ unavailable }) => unavailable)}" fill="none" stroke="#c9a227"/>
<text class="title" x="8" y="${below - 12}">Time from a fault to the first good response</text>
${bars.join('\n')}
</svg>
`;
}
