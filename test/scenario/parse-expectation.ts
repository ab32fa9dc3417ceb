/** Parses the right half of a line: the status, every member of the body, and headers. */
import type { Action, Expected, ExpectedHeader, ExpectedValue } from './scenario.ts';
import { ANY, LineError } from './scenario.ts';
import { unquote, TokenReader } from './tokens.ts';

const STATUS = /^[1-5]\d\d$/;
const MEMBER = /^([a-z][a-z0-9_]*)=(.+)$/s;
const HEADER = /^([A-Za-z][A-Za-z0-9-]*): *(.+)$/;
const CAPTURE = /^\$\w+$/;
const NO_HEADER = /^no ([A-Za-z][A-Za-z0-9-]*)$/;

/**
 * Parses the expected answers of an event.
 *
 * @param times the number of answers
 * @returns one expectation for each answer
 * @throws LineError with the text found and what is allowed
 */
export function parseExpectation(text: string, action: Action, times: number): Expected[] {
  const tokens = new TokenReader(text);
  if (action.kind === 'unlock') return [parseText(tokens, /^(done|unknown)$/, 'done or unknown')];
  if (['revoke', 'channel', 'settle'].includes(action.kind)) {
    return [parseText(tokens, /^done$/, 'done')];
  }
  if (action.kind === 'messages') return [parseText(tokens, /^\d+$/, 'a number of messages')];
  if (tokens.peek(1)?.text !== 'of') {
    const expected = parseAnswer(tokens);
    if (!tokens.isAtEnd) tokens.refuse('nothing more');
    return new Array<Expected>(times).fill(expected);
  }
  const all = parseCounted(tokens);
  if (all.length === times) return all;
  throw new LineError(`${times} answers, but ${all.length} are expected`);
}

function parseText(tokens: TokenReader, pattern: RegExp, allowed: string): Expected {
  const found = tokens.needMatch(allowed, pattern);
  if (!tokens.isAtEnd) tokens.refuse('nothing more');
  return { text: found, answer: { kind: 'text', text: found }, headers: [] };
}

/** `3 of 201 …, 57 of 429 …` */
function parseCounted(tokens: TokenReader): Expected[] {
  const all: Expected[] = [];
  while (all.length === 0 || !tokens.isAtEnd) {
    if (all.length > 0) tokens.needKind('", N of STATUS …"', 'comma');
    const count = Number(tokens.needMatch('a number, as in "3 of 201 …"', /^[1-9]\d{0,2}$/));
    tokens.need('of');
    const expected = parseAnswer(tokens);
    for (let index = 0; index < count; index += 1) all.push(expected);
  }
  return all;
}

function parseAnswer(tokens: TokenReader): Expected {
  const written: string[] = [];
  const answer = tokens.take('the', 'same', 'answer', 'as')
    ? parseSame(tokens, written) : parseBody(tokens, written);
  const headers: ExpectedHeader[] = [];
  while (tokens.peek()?.kind === 'header') {
    const text = tokens.needKind('a header', 'header');
    headers.push(parseHeader(text));
    written.push(`[${text}]`);
  }
  return { text: written.join(' '), answer, headers };
}

function parseSame(tokens: TokenReader, written: string[]): Expected['answer'] {
  const capture = tokens.needMatch('$NAME', CAPTURE);
  written.push('the same answer as', capture);
  return { kind: 'same', capture };
}

function parseBody(tokens: TokenReader, written: string[]): Expected['answer'] {
  const status = tokens.needMatch('a status such as 201, or "the same answer as $NAME"', STATUS);
  written.push(status);
  const members = new Map<string, ExpectedValue>();
  while (tokens.peek()?.kind === 'plain') {
    const text = tokens.needMatch('NAME=VALUE or [Header: value]', MEMBER);
    const [, name = '', value = ''] = MEMBER.exec(text) ?? [];
    if (members.has(name)) throw new LineError(`${name} is expected twice`);
    members.set(name, parseValue(value));
    written.push(text);
  }
  return { kind: 'body', status: Number(status), members };
}

/** `*`, or a number, true, false or null as in JSON; any other value is a text. */
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
    throw new LineError(`found [${text}]; allowed here: [Header: value] or [no Header]`);
  }
  if (CAPTURE.test(value)) return { name, value: { capture: value } };
  return { name, value: value === '*' ? ANY : value };
}
