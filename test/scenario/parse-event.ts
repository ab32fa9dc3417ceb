/** Parses the left half of a line: who does what, with which code and key, on which process. */
import { isIP } from 'node:net';
import type {
  ClientAction, FixtureAction, Key, NamedOtp, NamedToken, RequestOptions, Step, TypedCode,
} from './scenario.ts';
import { LineError } from './scenario.ts';
import { TokenReader } from './tokens.ts';

export type ParsedEvent =
  Pick<Step, 'action' | 'times' | 'process' | 'apiClient' | 'namesAddress' | 'capture'>;

/** More requests show nothing new about a race, and cost the client sockets. */
const TIMES_MAX = 200;

const CAPTURE = /^\$[A-Za-z][A-Za-z0-9_]*$/;
const MODIFIERS = '"with key K", "with quoted key K", "without a key", "with otp_id of $NAME",'
  + ' "to ADDRESS", "channel NAME", "locale TAG", "on device $NAME, $NAME",'
  + ' "on process N", "as $NAME", "as caller NAME", "without an address"';
const API_CLIENT_NAME = /^[A-Za-z0-9_-]{1,32}$/;
const DEFAULT_TYPE = 'application/json';

/** An id, known or not, without characters that have a meaning in a path. */
const PLAIN_ID = /^[0-9A-Za-z]{1,64}$/;

/** The verbs for the channel, and the result of every later message. */
const MOODS = { accepts: 'accepted', refuses: 'refused', fails: 'retry' } as const;

const ACTORS = 'a user, "someone", "operator unlocks", "operator revokes", "messages sent so far",'
  + ' "the channel", "deliveries settle"';
const VERBS = '"requests", "verifies", "asks for the status of", "cancels" or "posts"';

type Modifiers = {
  key: Key | null;
  otpId: NamedOtp | null;
  options: RequestOptions;
  devices: readonly NamedToken[];
}
  & { -readonly [K in Exclude<keyof ParsedEvent, 'action' | 'times'>]: Step[K] };

const NO_MODIFIERS: Modifiers = {
  key: null, otpId: null, options: {}, devices: [], process: null, apiClient: null,
  namesAddress: true, capture: null,
};

const OPTIONS = ['to', 'channel', 'locale'] as const;

/**
 * Parses an event.
 *
 * @throws LineError with the text found and what is allowed
 */
export function parseEvent(text: string): ParsedEvent {
  const tokens = new TokenReader(text);
  const action = parseFixtureAction(tokens);
  if (action === null) return parseClientEvent(tokens);
  if (!tokens.isAtEnd) tokens.refuse('nothing more');
  const { key, otpId, options, devices, ...modifiers } = NO_MODIFIERS;
  return { action, times: 1, ...modifiers };
}

/** Null when a client acts. */
function parseFixtureAction(tokens: TokenReader): FixtureAction | null {
  if (tokens.take('operator', 'unlocks')) {
    const userId = parseName(tokens, 'a user');
    const purpose = tokens.isAtEnd ? null : parseName(tokens, 'a purpose or the end');
    return { kind: 'unlock', userId, purpose };
  }
  if (tokens.take('operator', 'revokes')) {
    const userId = parseName(tokens, 'a user');
    const device = tokens.isAtEnd ? null : tokens.needMatch('$NAME or the end', CAPTURE);
    return { kind: 'revoke', userId, device };
  }
  if (tokens.take('messages', 'sent', 'so', 'far')) return { kind: 'messages' };
  if (tokens.take('deliveries', 'settle')) return { kind: 'settle' };
  if (!tokens.take('the', 'channel')) return null;
  const verb = tokens.needMatch('"accepts", "refuses" or "fails"', /^(accepts|refuses|fails)$/);
  return { kind: 'channel', sendResult: MOODS[verb as keyof typeof MOODS] };
}

function parseClientEvent(tokens: TokenReader): ParsedEvent {
  const times = tokens.peek(1)?.text === 'times' ? parseTimes(tokens) : 1;
  const userId = parseName(tokens, ACTORS);
  tokens.need('from');
  const address = tokens.needMatch('an IP address', /^[0-9A-Fa-f.:]+$/);
  if (isIP(address) === 0) throw new LineError(`"${address}" is not an IP address`);
  const action = parseVerb(tokens, userId, address);
  const { key, ...others } = parseModifiers(tokens);
  const { otpId, options, devices, ...modifiers } = others;
  const { apiClient, namesAddress, capture } = modifiers;
  if (capture !== null && times > 1) throw new LineError(`${capture} cannot name ${times} answers`);
  if (apiClient === null && !namesAddress) {
    throw new LineError('"without an address" is for callers: only they name addresses');
  }
  const keyed = key === null ? action : { ...action, key };
  return { action: withMembers(keyed, others), times, ...modifiers };
}

/** Adds what only an event that requests, or one that verifies, has. */
function withMembers(
  action: ClientAction,
  { otpId, options, devices }: Omit<Modifiers, 'key'>,
): ClientAction {
  const [option] = Object.keys(options);
  if (option !== undefined && action.kind !== 'request') {
    throw new LineError(`only an event that requests has "${option}"`);
  }
  if (otpId !== null && action.kind !== 'verify') {
    throw new LineError('only an event that verifies has an otp_id');
  }
  if (action.kind === 'request') return { ...action, options, devices };
  if (action.kind === 'verify') return { ...action, otpId, devices };
  if (devices.length === 0) return action;
  throw new LineError('only an event that requests or verifies is "on device"');
}

function parseVerb(tokens: TokenReader, userId: string, address: string): ClientAction {
  if (tokens.take('requests')) {
    const purpose = parseName(tokens, 'a purpose');
    return { kind: 'request', userId, purpose, address, options: {}, devices: [],
      key: { kind: 'fresh' } };
  }
  if (tokens.take('verifies')) {
    const purpose = parseName(tokens, 'a purpose');
    const code = parseCode(tokens);
    return { kind: 'verify', userId, purpose, address, code, otpId: null, devices: [],
      key: { kind: 'none' } };
  }
  if (tokens.take('posts')) return parsePost(tokens, userId, address);
  const key: Key = { kind: 'none' };
  if (tokens.take('asks', 'for', 'the', 'status', 'of')) {
    return { kind: 'status', address, otp: parseOtp(tokens), key };
  }
  if (tokens.take('cancels')) return { kind: 'cancel', address, otp: parseOtp(tokens), key };
  return tokens.refuse(VERBS);
}

function parseOtp(tokens: TokenReader): NamedOtp {
  if (tokens.peek()?.kind !== 'quoted') {
    return { kind: 'captured', name: tokens.needMatch('$NAME or an id in "quotes"', CAPTURE) };
  }
  const text = tokens.needKind('an id', 'quoted');
  if (!PLAIN_ID.test(text)) throw new LineError(`"${text}" is no id of letters and digits`);
  return { kind: 'literal', text };
}

/** A raw body, for requests that no well-behaved client sends. The body names the user. */
function parsePost(tokens: TokenReader, sender: string, address: string): ClientAction {
  if (sender !== 'someone') throw new LineError('only "someone" posts: the body names the user');
  const body = tokens.needKind('a body in \'single quotes\'', 'body');
  tokens.need('to');
  const path = tokens.needMatch('/otp/request or /otp/verify', /^\/otp\/(request|verify)$/);
  const type = tokens.take('of', 'type')
    ? tokens.needKind('a media type', 'plain', 'quoted') : DEFAULT_TYPE;
  const key: Key = { kind: path === '/otp/request' ? 'fresh' : 'none' };
  return { kind: 'post', address, path, body, type, key };
}

function parseCode(tokens: TokenReader): TypedCode {
  tokens.need('with');
  if (tokens.take('a', 'wrong', 'code')) return { kind: 'wrong' };
  const token = tokens.peek();
  if (token?.kind === 'quoted') {
    return { kind: 'literal', text: tokens.needKind('a code', 'quoted') };
  }
  const name = tokens.needMatch('"a wrong code", $NAME or a code in "quotes"', CAPTURE);
  return { kind: 'captured', name };
}

function parseModifiers(tokens: TokenReader): Modifiers {
  const modifiers: Modifiers = { ...NO_MODIFIERS };
  while (!tokens.isAtEnd) {
    if (modifiers.key === null && takeKey(tokens, modifiers)) continue;
    if (takeOption(tokens, modifiers)) continue;
    if (modifiers.otpId === null && tokens.take('with', 'otp_id', 'of')) {
      modifiers.otpId = parseOtp(tokens);
    } else if (modifiers.devices.length === 0 && tokens.take('on', 'device')) {
      modifiers.devices = parseDevices(tokens);
    } else if (modifiers.process === null && tokens.take('on', 'process')) {
      modifiers.process = Number(tokens.needMatch('a number from 1', /^[1-9]$/));
    } else if (modifiers.apiClient === null && tokens.take('as', 'caller')) {
      modifiers.apiClient = tokens.needMatch('a caller', API_CLIENT_NAME);
    } else if (modifiers.namesAddress && tokens.take('without', 'an', 'address')) {
      modifiers.namesAddress = false;
    } else if (modifiers.capture === null && tokens.take('as')) {
      modifiers.capture = tokens.needMatch('$NAME', CAPTURE);
    } else tokens.refuse(`each once: ${MODIFIERS}`);
  }
  return modifiers;
}

/** Names of tokens, and texts in their place, with commas between them. */
function parseDevices(tokens: TokenReader): NamedToken[] {
  const devices: NamedToken[] = [];
  do {
    if (devices.length > 0) tokens.needKind('","', 'comma');
    if (tokens.peek()?.kind === 'quoted') {
      devices.push({ kind: 'literal', text: tokens.needKind('a text', 'quoted') });
    } else {
      const name = tokens.needMatch('$NAME or any text in "quotes"', CAPTURE);
      devices.push({ kind: 'captured', name });
    }
  } while (tokens.peek()?.kind === 'comma');
  return devices;
}

function takeOption(tokens: TokenReader, modifiers: Modifiers): boolean {
  const name = OPTIONS.find((one) => modifiers.options[one] === undefined && tokens.take(one));
  if (name === undefined) return false;
  const value = tokens.needKind(`a value of "${name}"`, 'plain', 'quoted');
  modifiers.options = { ...modifiers.options, [name]: value };
  return true;
}

function takeKey(tokens: TokenReader, modifiers: Modifiers): boolean {
  const read = (): string => tokens.needKind('a key', 'plain', 'quoted');
  if (tokens.take('with', 'key')) modifiers.key = { kind: 'wire', text: read() };
  else if (tokens.take('with', 'quoted', 'key')) {
    modifiers.key = { kind: 'wire', text: JSON.stringify(read()) };
  } else if (tokens.take('without', 'a', 'key')) modifiers.key = { kind: 'none' };
  return modifiers.key !== null;
}

function parseTimes(tokens: TokenReader): number {
  const allowed = `a number from 2 to ${TIMES_MAX}`;
  const times = Number(tokens.needMatch(allowed, /^\d+$/));
  tokens.need('times');
  if (times < 2 || times > TIMES_MAX) throw new LineError(`${times} times; allowed: ${allowed}`);
  return times;
}

function parseName(tokens: TokenReader, what: string): string {
  return tokens.needKind(what, 'plain', 'quoted');
}
