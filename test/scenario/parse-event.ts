/** The left half of a line: who does what, with which code and key, on which process. */
import { isIP } from 'node:net';
import type {
  Action, ClientAction, Key, NamedOtp, StageAction, TypedCode,
} from './scenario.ts';
import { LineFault } from './scenario.ts';
import { WordReader } from './tokens.ts';

/** An event, read. */
export type ParsedEvent = Readonly<{
  action: Action;
  times: number;
  process: number | null;
  caller: string | null;
  namesAddress: boolean;
  capture: string | null;
}>;

/** More at once says nothing more about a race, and the client would need the sockets. */
const TIMES_MAX = 200;

const CAPTURE = /^\$[A-Za-z][A-Za-z0-9_]*$/;
const MODIFIERS = '"with key K", "with quoted key K", "without a key", "on process N", "as $NAME",'
  + ' "as caller NAME", "without an address"';
const CALLER = /^[A-Za-z0-9_-]{1,32}$/;
const DEFAULT_TYPE = 'application/json';

/** What an id may be of, known or not: nothing that a path would give a meaning to. */
const PLAIN_ID = /^[0-9A-Za-z]{1,64}$/;

/** What is said of the channel, and what it then says to every message. */
const MOODS = { accepts: 'accepted', refuses: 'refused', fails: 'retry' } as const;

const ACTORS = 'a user, "someone", "operator unlocks", "messages sent so far", "the channel",'
  + ' "deliveries settle"';
const VERBS = '"requests", "verifies", "asks for the status of", "cancels" or "posts"';

type Modifiers = {
  key: Key | null;
  process: number | null;
  caller: string | null;
  namesAddress: boolean;
  capture: string | null;
};

const NO_MODIFIERS: Modifiers = {
  key: null, process: null, caller: null, namesAddress: true, capture: null,
};

/**
 * Reads an event.
 *
 * @throws LineFault with what was found and what is allowed
 */
export function parseEvent(text: string): ParsedEvent {
  const words = new WordReader(text);
  const action = parseStageAction(words);
  if (action === null) return parseClientEvent(words);
  if (!words.isAtEnd) words.refuse('nothing more');
  const { key, ...modifiers } = NO_MODIFIERS;
  return { action, times: 1, ...modifiers };
}

/** Null when it is a client who acts. */
function parseStageAction(words: WordReader): StageAction | null {
  if (words.take('operator', 'unlocks')) {
    const userId = parseName(words, 'a user');
    return { kind: 'unlock', userId, purpose: parseName(words, 'a purpose') };
  }
  if (words.take('messages', 'sent', 'so', 'far')) return { kind: 'messages' };
  if (words.take('deliveries', 'settle')) return { kind: 'settle' };
  if (!words.take('the', 'channel')) return null;
  const verb = words.needMatch('"accepts", "refuses" or "fails"', /^(accepts|refuses|fails)$/);
  return { kind: 'channel', verdict: MOODS[verb as keyof typeof MOODS] };
}

function parseClientEvent(words: WordReader): ParsedEvent {
  const times = words.peek(1)?.text === 'times' ? parseTimes(words) : 1;
  const userId = parseName(words, ACTORS);
  words.need('from');
  const address = words.needMatch('an IP address', /^[0-9A-Fa-f.:]+$/);
  if (isIP(address) === 0) throw new LineFault(`"${address}" is not an IP address`);
  const action = parseVerb(words, userId, address);
  const { key, ...modifiers } = parseModifiers(words);
  const { caller, namesAddress, capture } = modifiers;
  if (capture !== null && times > 1) throw new LineFault(`${capture} cannot name ${times} answers`);
  if (caller === null && !namesAddress) {
    throw new LineFault('"without an address" is for callers: only they name addresses');
  }
  return { action: key === null ? action : { ...action, key }, times, ...modifiers };
}

function parseVerb(words: WordReader, userId: string, address: string): ClientAction {
  if (words.take('requests')) {
    const purpose = parseName(words, 'a purpose');
    return { kind: 'request', userId, purpose, address, key: { kind: 'fresh' } };
  }
  if (words.take('verifies')) {
    const purpose = parseName(words, 'a purpose');
    const code = parseCode(words);
    return { kind: 'verify', userId, purpose, address, code, key: { kind: 'none' } };
  }
  if (words.take('posts')) return parsePost(words, userId, address);
  const key: Key = { kind: 'none' };
  if (words.take('asks', 'for', 'the', 'status', 'of')) {
    return { kind: 'status', address, otp: parseOtp(words), key };
  }
  if (words.take('cancels')) return { kind: 'cancel', address, otp: parseOtp(words), key };
  return words.refuse(VERBS);
}

function parseOtp(words: WordReader): NamedOtp {
  if (words.peek()?.kind !== 'quoted') {
    return { kind: 'captured', name: words.needMatch('$NAME or an id in "quotes"', CAPTURE) };
  }
  const text = words.needKind('an id', 'quoted');
  if (!PLAIN_ID.test(text)) throw new LineFault(`"${text}" is no id of letters and digits`);
  return { kind: 'literal', text };
}

/** A body as it is, for what no well-behaved client sends. The body says who it is for. */
function parsePost(words: WordReader, sender: string, address: string): ClientAction {
  if (sender !== 'someone') throw new LineFault('only "someone" posts: the body names the user');
  const body = words.needKind('a body in \'single quotes\'', 'body');
  words.need('to');
  const path = words.needMatch('/otp/request or /otp/verify', /^\/otp\/(request|verify)$/);
  const type = words.take('of', 'type')
    ? words.needKind('a media type', 'plain', 'quoted') : DEFAULT_TYPE;
  const key: Key = { kind: path === '/otp/request' ? 'fresh' : 'none' };
  return { kind: 'post', address, path, body, type, key };
}

function parseCode(words: WordReader): TypedCode {
  words.need('with');
  if (words.take('a', 'wrong', 'code')) return { kind: 'wrong' };
  const word = words.peek();
  if (word?.kind === 'quoted') {
    return { kind: 'literal', text: words.needKind('a code', 'quoted') };
  }
  const name = words.needMatch('"a wrong code", $NAME or a code in "quotes"', CAPTURE);
  return { kind: 'captured', name };
}

function parseModifiers(words: WordReader): Modifiers {
  const modifiers: Modifiers = { ...NO_MODIFIERS };
  while (!words.isAtEnd) {
    if (modifiers.key === null && takeKey(words, modifiers)) continue;
    if (modifiers.process === null && words.take('on', 'process')) {
      modifiers.process = Number(words.needMatch('a number from 1', /^[1-9]$/));
    } else if (modifiers.caller === null && words.take('as', 'caller')) {
      modifiers.caller = words.needMatch('a caller', CALLER);
    } else if (modifiers.namesAddress && words.take('without', 'an', 'address')) {
      modifiers.namesAddress = false;
    } else if (modifiers.capture === null && words.take('as')) {
      modifiers.capture = words.needMatch('$NAME', CAPTURE);
    } else words.refuse(`each once: ${MODIFIERS}`);
  }
  return modifiers;
}

function takeKey(words: WordReader, modifiers: Modifiers): boolean {
  const read = (): string => words.needKind('a key', 'plain', 'quoted');
  if (words.take('with', 'key')) modifiers.key = { kind: 'wire', text: read() };
  else if (words.take('with', 'quoted', 'key')) {
    modifiers.key = { kind: 'wire', text: JSON.stringify(read()) };
  } else if (words.take('without', 'a', 'key')) modifiers.key = { kind: 'none' };
  return modifiers.key !== null;
}

function parseTimes(words: WordReader): number {
  const allowed = `a number from 2 to ${TIMES_MAX}`;
  const times = Number(words.needMatch(allowed, /^\d+$/));
  words.need('times');
  if (times < 2 || times > TIMES_MAX) throw new LineFault(`${times} times; allowed: ${allowed}`);
  return times;
}

function parseName(words: WordReader, what: string): string {
  return words.needKind(what, 'plain', 'quoted');
}
