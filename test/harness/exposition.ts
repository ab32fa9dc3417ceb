/** A strict reader of the Prometheus text format, version 0.0.4. */

/** A sample with its labels in order. */
export type Line = Readonly<{ name: string; labels: Record<string, string>; value: number }>;

/** All samples of one name. */
export type Metric = Readonly<{ name: string; type: string; help: string; lines: Line[] }>;

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const HELP = new RegExp(`^# HELP (${NAME}) ((?:[^\\\\]|\\\\[\\\\n])*)$`);
const TYPE = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram)$`);
const LINE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`);
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^\\"\n]|\\[\\"n])*)"(,|$)/y;
const NUMBER = /^(?:[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN)$/;

/** Parses a text; throws where the format does not allow it. */
export function parseExposition(text: string): Map<string, Metric> {
  if (text.includes('\r') || !text.endsWith('\n')) throw new Error('lines must end with LF');
  const metrics = new Map<string, Metric>();
  const lines = text.slice(0, -1).split('\n');
  let current: Metric | null = null;
  for (let at = 0; at < lines.length; at += 1) {
    const help = HELP.exec(lines[at]!);
    if (help === null) {
      if (current === null) throw new Error(`no HELP: ${lines[at]}`);
      current.lines.push(parseLine(lines[at]!));
      continue;
    }
    const type = TYPE.exec(lines[at += 1] ?? '');
    const name = help[1]!;
    if (type?.[1] !== name) throw new Error(`no TYPE: ${name}`);
    if (metrics.has(name)) throw new Error(`twice: ${name}`);
    current = { name, type: type[2]!, help: help[2]!, lines: [] };
    metrics.set(name, current);
  }
  for (const metric of metrics.values()) check(metric);
  return metrics;
}

function parseLine(text: string): Line {
  const [, name, list = '', number] = LINE.exec(text) ?? [];
  if (name === undefined || !NUMBER.test(number!)) throw new Error(`no sample: ${text}`);
  const labels: Record<string, string> = {};
  let at = 0;
  while (at < list.length) {
    LABEL.lastIndex = at;
    const [whole, label, value] = LABEL.exec(list) ?? [];
    if (whole === undefined || label! in labels) throw new Error(`no labels: ${text}`);
    labels[label!] = value!.replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
    at += whole.length;
  }
  return { name, labels, value: number === '+Inf' ? Infinity : Number(number) };
}

function check({ name, type, lines }: Metric): void {
  if (lines.length === 0) throw new Error(`no sample: ${name}`);
  const keys = lines.map((line) => line.name + JSON.stringify(Object.entries(line.labels).sort()));
  if (new Set(keys).size < keys.length) throw new Error(`the same sample twice: ${name}`);
  if (type === 'histogram') return checkHistogram(name, lines);
  for (const line of lines) {
    if (line.name !== name) throw new Error(`${line.name} in ${name}`);
    const isWhole = name.endsWith('_seconds_total') || Number.isInteger(line.value);
    const isCount = name.endsWith('_total') && isWhole && line.value >= 0;
    if (type === 'counter' && !isCount) throw new Error(`no counter: ${name} ${line.value}`);
  }
}

/** Checks that the buckets are sorted and cumulative, and that the last one, +Inf, is the count. */
function checkHistogram(name: string, lines: readonly Line[]): void {
  const series = new Map<string, Line[]>();
  for (const line of lines) {
    const { le, ...rest } = line.labels;
    if ((line.name === `${name}_bucket`) !== (le !== undefined)) throw new Error(`le: ${name}`);
    const key = JSON.stringify(rest);
    series.set(key, [...series.get(key) ?? [], line]);
  }
  for (const [key, own] of series) {
    const buckets = own.filter(({ labels }) => labels.le !== undefined);
    const [sum, count, ...more] = own.filter(({ labels }) => labels.le === undefined);
    const bounds = buckets.map(({ labels: { le } }) => (le === '+Inf' ? Infinity : Number(le)));
    const isRight = more.length === 0 && sum?.name === `${name}_sum`
      && count?.name === `${name}_count` && buckets.at(-1)?.labels.le === '+Inf'
      && buckets.at(-1)?.value === count.value
      && bounds.every((bound, at) => at === 0 || bound > bounds[at - 1]!)
      && buckets.every(({ value }, at) => at === 0 || value >= buckets[at - 1]!.value);
    if (!isRight) throw new Error(`no histogram: ${name} ${key}`);
  }
}

/** The value under a name and labels; throws when there is none. */
export function valueOf(
  metrics: ReadonlyMap<string, Metric>,
  name: string,
  labels: Record<string, string> = {},
): number {
  const metric = metrics.get(name.replace(/_(bucket|sum|count)$/, '')) ?? metrics.get(name);
  const found = metric?.lines.find((line) => line.name === name
    && Object.keys(line.labels).length === Object.keys(labels).length
    && Object.entries(labels).every(([label, value]) => line.labels[label] === value));
  if (found === undefined) throw new Error(`no ${name} ${JSON.stringify(labels)}`);
  return found.value;
}
