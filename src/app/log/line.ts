/**
 * The format of a log line: JSON in printable ASCII, or text for a person. No text from a client
 * can end a line, forge one or colour a terminal (OWASP ASVS 5.0, 16.4.1).
 */
import { quoteAscii } from '../../otp/channels/console.ts';

export type Level = 'error' | 'warn' | 'info';

/** Characters that are escaped: everything but printable ASCII, and the quote and backslash. */
const SPECIAL = /[^\x20-\x21\x23-\x5b\x5d-\x7e]/;

/** The longest escape is \u and four digits. */
const ESCAPE_CHARACTERS = 6;

/** Limits of a user without a pseudonym and of a purpose, counted with escapes. */
export const LOGGED_USER_MAX_CHARACTERS = 1000;
export const LOGGED_PURPOSE_MAX_CHARACTERS = 600;

/** Limit of values that are short by nature: addresses, ids, names. */
export const WORD_MAX_CHARACTERS = 100;

/** Members whose values need no name; the text format shows them first. */
const UNNAMED: readonly string[] = Object.freeze(['method', 'route', 'status', 'outcome']);

const COLOURS: Readonly<Record<Level, string>>
  = Object.freeze({ error: '\x1b[31m', warn: '\x1b[33m', info: '\x1b[2m' });
const NO_COLOUR = '\x1b[0m';

/**
 * Encodes a JSON string in printable ASCII.
 *
 * @param maxCharacters limit between the quotes; a longer text is cut and ends in three dots
 */
export function quote(text: string, maxCharacters: number): string {
  if (text.length <= maxCharacters && !SPECIAL.test(text)) return `"${text}"`;
  const escaped = quoteAscii(text);
  if (escaped.length - 2 <= maxCharacters) return escaped;
  const kept = text.length > maxCharacters && !SPECIAL.test(text) ? maxCharacters - 3
    : Math.floor((maxCharacters - 3) / ESCAPE_CHARACTERS);
  return quote(`${text.slice(0, kept)}...`, maxCharacters);
}

/** `,"name":"value"`, or '' when the value is missing. */
export function member(
  name: string,
  text: string | null | undefined,
  maxCharacters: number,
): string {
  return text === null || text === undefined || text === '' ? ''
    : `,"${name}":${quote(text, maxCharacters)}`;
}

/** @param members any number of `member` results */
export function toJsonLine(time: string, level: Level, event: string, members: string): string {
  return `{"time":"${time}","level":"${level}","event":"${event}"${members}}\n`;
}

/**
 * Turns a line of toJsonLine into text: time of day, level, event and the other members. Stack
 * frames follow on indented lines, so that none can pass for a log line.
 */
export function toTextLine(line: string, isColoured: boolean): string {
  const { time, level, event, stack, ...rest } = JSON.parse(line) as
    { time: string; level: Level; event: string; stack?: string; [name: string]: unknown };
  const members = [
    ...UNNAMED.flatMap((name) => (name in rest ? [bareOrQuoted(rest[name])] : [])),
    ...Object.entries(rest).filter(([name]) => !UNNAMED.includes(name))
      .map(([name, value]) => `${name}=${bareOrQuoted(value)}`),
  ];
  const start = `${time.slice(time.indexOf('T') + 1)} ${level.padEnd(5)}`;
  const mark = isColoured ? `${COLOURS[level]}${start}${NO_COLOUR}` : start;
  const below = stack === undefined ? [] : stack.split('\n')
    .map((each) => `\n    ${quote(each.trim(), Infinity).slice(1, -1)}`);
  return `${[mark, event, ...members].join(' ')}${below.join('')}\n`;
}

function bareOrQuoted(value: unknown): string {
  const text = String(value);
  return /^[!#-<>-~]+$/.test(text) ? text : quote(text, Infinity);
}
