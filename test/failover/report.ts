/** The findings as a table, a Markdown page, and a chart of good answers over time. */
import { STYLE } from '../../bench/chart.ts';
import { machineLine } from '../../bench/machine.ts';
import type { Machine } from '../../bench/machine.ts';
import { markdown } from '../../bench/table.ts';
import { EVENTS } from './events.ts';
import type { EventName } from './options.ts';
import type { Second } from './observations.ts';
import type { Delays } from './readiness.ts';

/** What one event did to the clients; times are milliseconds since the start of its load. */
export type Outcome = Readonly<{
  name: EventName;
  eventMs: number;
  /** When another node took writes; null when none did. */
  newPrimaryMs: number | null;
  gapMs: number;
  failed: number;
  slowestMs: number;
  issued: number;
  redeemed: number;
  lost: number;
  wrongCount: number;
  wrong: readonly string[];
  redeemedTwice: number;
  sentTwice: number;
  /** The slowest message after its 201; null when one never came. */
  messageMs: number | null;
  delays: Delays;
  /** The changes of what the servers said together. */
  servers: string;
  /** For each otpd the changes of /readyz. */
  probes: readonly string[];
  /** Every check that a 503 of /readyz named after the event. */
  named: readonly string[];
  seconds: readonly Second[];
}>;

/** An event that could not be made to happen. */
export type NotRun = Readonly<{ name: EventName; reason: string }>;

export type Findings = Readonly<{
  machine: Machine;
  /** Load average of the machine at the end, over five minutes: other work makes answers late. */
  loadAverage: number;
  /** Settings of the group and of otpd that differ from their defaults. */
  settings: Readonly<Record<string, string>>;
  outcomes: readonly Outcome[];
  notRun: readonly NotRun[];
}>;

const ANSWER_MAX_MS = 3000;
const READYZ_MAX_MS = 2000;
const MESSAGE_MAX_MS = 1000;

const inSeconds = (ms: number): string => (ms / 1000).toFixed(1);

/** The goals that an event has missed, one text each. */
export function missedGoals(outcome: Outcome): string[] {
  const { lastsMs, gapMaxMs, failedMax, names } = EVENTS[outcome.name];
  const missed: string[] = [];
  const bound = (what: string, ms: number, maxMs: number): void => {
    if (ms > maxMs) missed.push(`${what} ${inSeconds(ms)} s, at most ${inSeconds(maxMs)} s`);
  };
  bound('gap', outcome.gapMs, lastsMs + gapMaxMs);
  bound('slowest answer', outcome.slowestMs, ANSWER_MAX_MS);
  bound('/readyz to 503', outcome.delays.to503Ms, READYZ_MAX_MS);
  bound('/readyz to 200', outcome.delays.to200Ms, READYZ_MAX_MS);
  if (outcome.issued === 0 || outcome.redeemed === 0) missed.push('nothing was acknowledged');
  if (outcome.messageMs === null) missed.push('a message never came');
  else bound('message', outcome.messageMs, MESSAGE_MAX_MS);
  if (failedMax !== null && outcome.failed > failedMax) {
    missed.push(`${outcome.failed} requests failed, at most ${failedMax}`);
  }
  for (const what of ['lost', 'wrongCount', 'redeemedTwice'] as const) {
    if (outcome[what] > 0) missed.push(`${what} ${outcome[what]}, at most 0`);
  }
  if (names !== null && !outcome.named.includes(names)) {
    missed.push(`/readyz does not name ${names}`);
  }
  return missed;
}

const HEADS = ['event', 'gap, s', 'failed', 'slowest, s', '201 and 200', 'lost', 'wrong',
  'redeemed twice', 'message, s', '/readyz to 503, s', 'to 200, s', 'goals'];

/** The table of all events, those that were not run included. */
export function composeTable({ outcomes, notRun }: Findings): string {
  return markdown(HEADS, [
    ...outcomes.map((one) => [
      EVENTS[one.name].title, inSeconds(one.gapMs), String(one.failed), inSeconds(one.slowestMs),
      `${one.issued} and ${one.redeemed}`, String(one.lost), String(one.wrongCount),
      String(one.redeemedTwice), one.messageMs === null ? 'never' : inSeconds(one.messageMs),
      inSeconds(one.delays.to503Ms), inSeconds(one.delays.to200Ms),
      missedGoals(one).length === 0 ? 'met' : `**missed**: ${missedGoals(one).join('; ')}`,
    ]),
    ...notRun.map(({ name, reason }) => [
      EVENTS[name].title, ...HEADS.slice(2).map(() => ''), `**not run**: ${reason}`]),
  ]);
}

/** Where it was measured; the same words on the page and in docs/scale.md. */
export function composeHead({ machine, loadAverage }: Findings): string {
  return `${machineLine(machine)} Load average ${loadAverage.toFixed(1)}, other work included.`;
}

export function composePage(found: Findings): string {
  const { settings, outcomes } = found;
  const wrong = outcomes.flatMap((one) =>
    one.wrong.map((text) => `- wrong, ${one.name}: ${text}\n`));
  return `# Failover

${composeHead(found)}
${Object.entries(settings).map(([name, value]) => `${name}=${value}`).join(', ')}.

Ten flows a second: a request, a wrong code, the right code, the same again, the status, and the key
of the request again. A client repeats a request that failed, to the other otpd. Each answer is
compared with a model of its flow, and each 201 and 200 is looked up on every member.

![Good answers per second and the events](failover.svg)

${composeTable(found)}
- gap: the longest time without a good answer; failed: answers of 503 and broken connections.
- message: the slowest message after its 201, or after the gap if its 201 came right before it.
- /readyz: the longest time for which it contradicted what the servers said of themselves.

## /readyz

Times after the event: what the servers said of themselves, then each otpd.

${outcomes.map(({ name, servers, probes }) =>
    `- ${EVENTS[name].title}: ${[servers, ...probes].join(' / ')}`).join('\n')}
${wrong.join('')}`;
}

const LEFT_PX = 60;
const PLOT_PX = 860;
const TOP_PX = 56;
const PANEL_PX = 90;
const STEP_PX = 140;

/** One panel for each event; the blue line is good answers, the yellow one failed requests. */
export function composeChart({ outcomes, notRun }: Findings): string {
  const drawn = outcomes.map((one, index) => drawPanel(one, TOP_PX + index * STEP_PX));
  const below = TOP_PX + outcomes.length * STEP_PX;
  const absent = notRun.map(({ name, reason }, index) =>
    `<text x="8" y="${below + index * 20}">not run: ${EVENTS[name].title} ` +
      `(${escape(reason)})</text>`);
  const [width, height] = [LEFT_PX + PLOT_PX + 20, below + notRun.length * 20];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"
  width="${width}" height="${height}" role="img" aria-label="Good answers per second and events">
${STYLE}
<text class="title" x="8" y="20">Good answers/s (blue), failed requests/s (yellow), the event (red),
the new primary (green)</text>
${[...drawn, ...absent].join('\n')}
</svg>
`;
}

function drawPanel(outcome: Outcome, top: number): string {
  const { name, seconds, eventMs, newPrimaryMs } = outcome;
  const most = Math.max(1, ...seconds.flatMap(({ good, failed }) => [good, failed]));
  const length = Math.max(1, seconds.length);
  const xOf = (second: number): string => (LEFT_PX + (PLOT_PX * second) / length).toFixed(1);
  const yOf = (count: number): string => (top + PANEL_PX * (1 - count / most)).toFixed(1);
  const line = (kind: keyof Second, colour: string): string => {
    const points = seconds.map((second, at) => `${xOf(at + 0.5)},${yOf(second[kind])}`).join(' ');
    return `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.5"/>`;
  };
  const mark = (ms: number, colour: string): string => {
    const x = xOf(ms / 1000);
    return `<line x1="${x}" x2="${x}" y1="${top}" y2="${top + PANEL_PX}" stroke="${colour}" ` +
      'stroke-width="1.5"/>';
  };
  return [
    `<text class="title" x="${LEFT_PX}" y="${top - 8}">${EVENTS[name].title}</text>`,
    `<line class="grid" x1="${LEFT_PX}" x2="${LEFT_PX + PLOT_PX}" y1="${top + PANEL_PX}" ` +
      `y2="${top + PANEL_PX}"/>`,
    `<text x="${LEFT_PX - 8}" y="${top + 8}" text-anchor="end">${most}</text>`,
    `<text x="${LEFT_PX - 8}" y="${top + PANEL_PX}" text-anchor="end">0</text>`,
    `<text x="${LEFT_PX + PLOT_PX}" y="${top + PANEL_PX + 16}" text-anchor="end">` +
      `${length} s</text>`,
    line('failed', '#c9a227'), line('good', '#2f74c0'), mark(eventMs, '#d9480f'),
    newPrimaryMs === null ? '' : mark(newPrimaryMs, '#2b8a3e'),
  ].join('\n');
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
