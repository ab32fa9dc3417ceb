/**
 * The form of a log line: JSON in printable ASCII, so that no text of a client can end a line,
 * forge one or colour a terminal (OWASP ASVS 5.0, 16.4.1), or one line for a person.
 */
/** How serious an event is. */
export type Level = 'error' | 'warn' | 'info';

/** What no text may have in it as it is: all but printable ASCII, the quote and the backslash. */
const SPECIAL = /[^\x20-\x21\x23-\x5b\x5d-\x7e]/;

/** The longest escape: \u and four digits. */
const ESCAPE_CHARACTERS = 6;

/** Characters of a user as it is, and of a purpose, with their escapes; what is longer is cut. */
export const LOGGED_USER_MAX_CHARACTERS = 1000;
export const LOGGED_PURPOSE_MAX_CHARACTERS = 600;

/** Of texts that are short by themselves: addresses, ids, names. */
export const WORD_MAX_CHARACTERS = 100;

/** Members that speak for themselves come first for a person, and without their names. */
const UNNAMED: readonly string[] = Object.freeze(['method', 'route', 'status', 'outcome']);

const COLOURS: Readonly<Record<Level, string>>
  = Object.freeze({ error: '\x1b[31m', warn: '\x1b[33m', info: '\x1b[2m' });
const NO_COLOUR = '\x1b[0m';

/**
 * A text as a JSON string in printable ASCII.
 *
 * @param maxCharacters of the result between its quotes: what is longer is cut, and ends in dots
 */
export function quote(text: string, maxCharacters: number): string {
  if (text.length <= maxCharacters && !SPECIAL.test(text)) return `"${text}"`;
  const escaped = JSON.stringify(text).replace(/[^\x20-\x7e]/g, escapeUnit);
  if (escaped.length - 2 <= maxCharacters) return escaped;
  const kept = text.length > maxCharacters && !SPECIAL.test(text) ? maxCharacters - 3
    : Math.floor((maxCharacters - 3) / ESCAPE_CHARACTERS);
  return quote(`${text.slice(0, kept)}...`, maxCharacters);
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** A member of a line after the first ones, or nothing of what is not known. */
export function member(
  name: string,
  text: string | null | undefined,
  maxCharacters: number,
): string {
  return text === null || text === undefined || text === '' ? ''
    : `,"${name}":${quote(text, maxCharacters)}`;
}

/**
 * A whole line.
 *
 * @param members what was made by member, or is like it
 */
export function toJsonLine(time: string, level: Level, event: string, members: string): string {
  return `{"time":"${time}","level":"${level}","event":"${event}"${members}}\n`;
}

/**
 * A line for a person: time of day, level, event, and what else there is. The lines of a stack
 * stand below it, set in, so that they cannot be taken for others.
 *
 * @param line made by toJsonLine
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

/** Without quotes when it is one plain word. */
function bareOrQuoted(value: unknown): string {
  const text = String(value);
  return /^[!#-<>-~]+$/.test(text) ? text : quote(text, Infinity);
}
