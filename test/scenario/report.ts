/** The output for a scenario: a table of its events, and each difference in full. */
import type { Got } from './compare.ts';
import type { Comparison, StepResult } from './run.ts';
import type { Expected } from './scenario.ts';

/** The length of a time with microseconds, and of the longer result. */
const TIME_COLUMNS = 15;
const RESULT_COLUMNS = 10;
const GAP = '  ';

/** A narrower table is harder to read than one that exceeds the terminal. */
const TABLE_MIN_COLUMNS = 80;

/** An otp_id has 32 hexadecimal digits; the first eight distinguish two. */
const LONG_ID = /\b([0-9a-f]{8})[0-9a-f]{24}\b/g;

export function tableHead(columns: number): string {
  return tableRow(['time', 'event', 'expected', 'got', ''], columns);
}

/** A line of the scenario as table rows, wrapped to the width of the terminal. */
export function tableEvent({ step, comparisons, passed }: StepResult, columns: number): string {
  const got = countAlike(comparisons.map((one) => describeGot(one.got, one.expected)));
  const expected = step.expectedText.replaceAll(/\s+/g, ' ');
  const cells = [step.time, step.text, expected, got, passed ? 'ok' : 'DIFFERENCE'];
  return tableRow(cells, columns);
}

/** A line that failed, in full: place, expected answer, answer, and differences. */
export function describeDifferences(file: string, { step, comparisons }: StepResult): string {
  const lines = comparisons.filter((one) => one.differences.length > 0).map(describeComparison);
  const shown = [...new Set(lines)];
  return [`${file}:${step.line}: ${step.time} ${step.text}`, ...shown].join('\n');
}

function describeComparison({ expected, got, differences }: Comparison): string {
  return [
    `    expected  ${expected.text}`,
    `    got       ${describeGot(got, expected)}`,
    ...differences.map((difference) => `    differs   ${difference}`),
  ].join('\n');
}

/** The status, the members, and the headers that the expectation names. */
function describeGot(got: Got, { headers }: Expected): string {
  if (got.kind === 'text') return got.text;
  const { status, body, headers: found } = got.reply;
  const members = Object.entries(body).map(([name, value]) => `${name}=${describeValue(value)}`);
  const shown = headers.map(({ name }) => {
    const value = found[name.toLowerCase()];
    return value === undefined ? `[no ${name}]` : `[${name}: ${String(value)}]`;
  });
  return [status, ...members, ...shown].join(' ').replaceAll(LONG_ID, '$1…');
}

function describeValue(value: unknown): string {
  const isWord = typeof value === 'string' && /^[A-Za-z_]\w*$/.test(value);
  return isWord || LONG_ID.test(String(value)) ? String(value) : JSON.stringify(value);
}

/** `3 of 201 …, 57 of 429 …`; a single answer has no count. */
function countAlike(texts: readonly string[]): string {
  if (texts.length === 1) return texts[0]!;
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts].map(([text, count]) => `${count} of ${text}`).join(', ');
}

function tableRow(cells: readonly string[], columns: number): string {
  const free = Math.max(columns, TABLE_MIN_COLUMNS)
    - TIME_COLUMNS - RESULT_COLUMNS - GAP.length * 4;
  const third = Math.floor(free / 3);
  const widths = [TIME_COLUMNS, free - 2 * third, third, third, RESULT_COLUMNS];
  const wrapped = cells.map((cell, index) => wrap(cell, widths[index]!));
  const height = Math.max(...wrapped.map((lines) => lines.length));
  return Array.from({ length: height }, (_, row) =>
    wrapped.map((lines, index) => pad(lines[row] ?? '', widths[index]!)).join(GAP).trimEnd(),
  ).join('\n');
}

/** Wraps at spaces; a longer word is broken after = _ " or ; if possible. */
function wrap(text: string, width: number): string[] {
  const lines = [''];
  for (const piece of text.split(/\s+/).flatMap((word) => breakWord([...word], width))) {
    const last = lines.at(-1)!;
    if (last === '') lines[lines.length - 1] = piece;
    else if (lengthOf(last) + 1 + lengthOf(piece) > width) lines.push(piece);
    else lines[lines.length - 1] = `${last} ${piece}`;
  }
  return lines;
}

function breakWord(letters: readonly string[], width: number): string[] {
  if (letters.length <= width) return [letters.join('')];
  const seam = letters.findLastIndex((letter, at) => at < width && '=_";'.includes(letter)) + 1;
  const end = seam > 0 ? seam : width;
  return [letters.slice(0, end).join(''), ...breakWord(letters.slice(end), width)];
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - lengthOf(text)));
}

function lengthOf(text: string): number {
  return [...text].length;
}
