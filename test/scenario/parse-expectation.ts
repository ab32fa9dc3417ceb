/** The right half of a line: the status, every member of the body, and headers. */
import type { Action, Expected, ExpectedHeader, ExpectedValue } from './scenario.ts';
import { ANY, LineFault } from './scenario.ts';
import { unquote, WordReader } from './tokens.ts';

const STATUS = /^[1-5]\d\d$/;
const MEMBER = /^([a-z][a-z0-9_]*)=(.+)$/s;
const HEADER = /^([A-Za-z][A-Za-z0-9-]*): *(.+)$/;
const NO_HEADER = /^no ([A-Za-z][A-Za-z0-9-]*)$/;

/**
 * Reads what is expected of an event.
 *
 * @param times how many answers the event has
 * @returns one expectation for each of them
 * @throws LineFault with what was found and what is allowed
 */
export function parseExpectation(text: string, action: Action, times: number): Expected[] {
  const words = new WordReader(text);
  if (action.kind === 'unlock') return [parseWords(words, /^(done|unknown)$/, 'done or unknown')];
  if (action.kind === 'channel' || action.kind === 'settle') {
    return [parseWords(words, /^done$/, 'done')];
  }
  if (action.kind === 'messages') return [parseWords(words, /^\d+$/, 'a number of messages')];
  if (words.peek(1)?.text !== 'of') {
    const expected = parseAnswer(words);
    if (!words.isAtEnd) words.refuse('nothing more');
    return new Array<Expected>(times).fill(expected);
  }
  const all = parseCounted(words);
  if (all.length === times) return all;
  throw new LineFault(`${times} answers, but ${all.length} are expected`);
}

function parseWords(words: WordReader, pattern: RegExp, allowed: string): Expected {
  const found = words.needMatch(allowed, pattern);
  if (!words.isAtEnd) words.refuse('nothing more');
  return { text: found, answer: { kind: 'words', words: found }, headers: [] };
}

/** `3 of 201 …, 57 of 429 …` */
function parseCounted(words: WordReader): Expected[] {
  const all: Expected[] = [];
  while (all.length === 0 || !words.isAtEnd) {
    if (all.length > 0) words.needKind('", N of STATUS …"', 'comma');
    const count = Number(words.needMatch('a number, as in "3 of 201 …"', /^[1-9]\d{0,2}$/));
    words.need('of');
    const expected = parseAnswer(words);
    for (let index = 0; index < count; index += 1) all.push(expected);
  }
  return all;
}

function parseAnswer(words: WordReader): Expected {
  const written: string[] = [];
  const answer = words.take('the', 'same', 'answer', 'as')
    ? parseSame(words, written) : parseBody(words, written);
  const headers: ExpectedHeader[] = [];
  while (words.peek()?.kind === 'header') {
    const text = words.needKind('a header', 'header');
    headers.push(parseHeader(text));
    written.push(`[${text}]`);
  }
  return { text: written.join(' '), answer, headers };
}

function parseSame(words: WordReader, written: string[]): Expected['answer'] {
  const capture = words.needMatch('$NAME', /^\$\w+$/);
  written.push('the same answer as', capture);
  return { kind: 'same', capture };
}

function parseBody(words: WordReader, written: string[]): Expected['answer'] {
  const status = words.needMatch('a status such as 201, or "the same answer as $NAME"', STATUS);
  written.push(status);
  const members = new Map<string, ExpectedValue>();
  while (words.peek()?.kind === 'plain') {
    const text = words.needMatch('NAME=VALUE or [Header: value]', MEMBER);
    const [, name = '', value = ''] = MEMBER.exec(text) ?? [];
    if (members.has(name)) throw new LineFault(`${name} is expected twice`);
    members.set(name, parseValue(value));
    written.push(text);
  }
  return { kind: 'body', status: Number(status), members };
}

/** `*`, a number, true, false or null as in JSON; anything else is a text. */
function parseValue(value: string): ExpectedValue {
  if (value === '*') return ANY;
  if (value.startsWith('"')) return unquote(value);
  if (/^(true|false|null|-?(0|[1-9]\d*)(\.\d+)?)$/.test(value)) {
    return JSON.parse(value) as ExpectedValue;
  }
  return value;
}

function parseHeader(text: string): ExpectedHeader {
  const absent = NO_HEADER.exec(text);
  if (absent !== null) return { name: absent[1]!, value: null };
  const [, name, value] = HEADER.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new LineFault(`found [${text}]; allowed here: [Header: value] or [no Header]`);
  }
  return { name, value: value === '*' ? ANY : value };
}
