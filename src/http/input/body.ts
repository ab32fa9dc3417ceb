/**
 * The body of a request: reading it within its bound, the strict reader of its JSON (UTF-8, one
 * object, only known members, each once; RFC 8259, sections 4 and 8.1), and its fields.
 */
import { Buffer, isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { identityRule, isIdentity, PURPOSE_MAX_CHARACTERS } from '../../otp/identity.ts';
import { POLICY_BOUNDS } from '../../otp/policy/policy.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import type { ErrorCode, FieldError } from '../response.ts';

/** The largest body (contract, "Errors"): thrice the longest valid one, escapes aside. */
export const BODY_MAX_BYTES = 4096;

/** How reading ends: the bytes, why they could not be had, or null when the client is gone. */
export type BodyResult = Buffer | ErrorCode | null;

/** A body that is being read. */
export type BodyReading = Readonly<{
  result: Promise<BodyResult>;
  /** Ends the reading with a fault that the parser or a time limit has found. */
  fail: (code: ErrorCode) => void;
}>;

/**
 * Takes a body that has come in one piece with its header section, as nearly all do: without the
 * listeners and events of a stream, which cost more than everything else that is done for it.
 *
 * @param declaredBytes the Content-Length, at most BODY_MAX_BYTES; null when there is none
 * @returns the whole body, or null when it must be read
 */
export function takeBody(req: IncomingMessage, declaredBytes: number | null): Buffer | null {
  return req.readableLength === declaredBytes ? req.read() as Buffer | null : null;
}

/**
 * Reads a body of at most BODY_MAX_BYTES, whatever its framing. How long it may take is bounded by
 * the server's requestTimeout, which ends in `fail`.
 *
 * @returns the reading; its result never rejects, and is `payload_too_large` at the first byte
 *   over the bound (RFC 9110, 15.5.14)
 */
export function readBody(req: IncomingMessage): BodyReading {
  let settle: (result: BodyResult) => void = () => {};
  const result = new Promise<BodyResult>((resolve) => { settle = resolve; });
  const chunks: Buffer[] = [];
  let size = 0;
  req.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= BODY_MAX_BYTES) chunks.push(chunk);
    else settle('payload_too_large');
  });
  req.on('end', () => settle(chunks.length === 1 ? chunks[0] as Buffer : Buffer.concat(chunks)));
  // 'close' without 'end': the client went away. After 'end' it settles nothing.
  req.on('close', () => settle(null));
  return { result, fail: settle };
}

/** The members of a body; whether each is there and a string is for fields.ts to say. */
type JsonObject = Readonly<{ members: Readonly<Record<string, unknown>> }>;

/**
 * Reads a body.
 *
 * @param body the raw bytes, bounded by body.ts
 * @param known the names of the members that may occur
 * @returns the members, or what is wrong: field `body`, or the name of the member at fault
 */
export function parseJsonObject(
  body: Buffer,
  knownNames: readonly string[],
): JsonObject | FieldError {
  const text = body.toString('utf8');
  // What is not UTF-8 is read as U+FFFD; only with one in it the bytes must be looked at.
  if (text.includes('\ufffd') && !isUtf8(body)) return { field: 'body', message: 'must be UTF-8' };
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { field: 'body', message: 'must be a JSON object' };
  }
  const members = value as Record<string, unknown>;
  const names = Object.keys(members);
  let isFlat = true;
  for (const name of names) {
    if (!knownNames.includes(name)) {
      return { field: displayName(name), message: 'is not a known member' };
    }
    if (typeof members[name] !== 'string') isFlat = false;
  }
  // A flat object of n members is written with 2n strings: one more is a repeated member, of
  // which JSON.parse keeps only the last.
  if (isFlat && countStrings(text) !== 2 * names.length) {
    return { field: displayName(repeatedName(text)), message: 'must occur once' };
  }
  return { members };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A member name is the client's text: shown back only when it is a short plain identifier. */
function displayName(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]{0,31}$/.test(name) ? name : 'body';
}

/** The number of string literals in valid JSON. */
function countStrings(text: string): number {
  let count = 0;
  for (let at = text.indexOf('"'); at !== -1; at = text.indexOf('"', at)) {
    count += 1;
    at = skipString(text, at);
  }
  return count;
}

/** Where the string literal that opens at `start` is over: the index after its closing quote. */
function skipString(text: string, start: number): number {
  let at = start + 1;
  while (text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
  return at + 1;
}

/** The first member of the outermost object that comes a second time; '' when none does. */
function repeatedName(text: string): string {
  const seen = new Set<string>();
  let depth = 0;
  for (let at = 0; at < text.length;) {
    const char = text[at] as string;
    if (char !== '"') {
      if (char === '{' || char === '[') depth += 1;
      if (char === '}' || char === ']') depth -= 1;
      at += 1;
      continue;
    }
    const end = skipString(text, at);
    if (depth === 1 && text.slice(end).trimStart().startsWith(':')) {
      const name = JSON.parse(text.slice(at, end)) as string;
      if (seen.has(name)) return name;
      seen.add(name);
    }
    at = end;
  }
  return '';
}

const USER_ID_MAX_CHARACTERS = 255;

/** A field that obeys its rule, or what is wrong with it. */
type Field = string | FieldError;

/** `user_id`: 1 to 255 code points, well-formed, no control character. */
export function parseUserId(value: unknown): Field {
  return isIdentity(value, USER_ID_MAX_CHARACTERS) ? value
    : { field: 'user_id', message: identityRule(USER_ID_MAX_CHARACTERS) };
}

/** `purpose`: 1 to 100 code points, well-formed, no control character, and one that is allowed. */
export function parsePurpose(value: unknown, policies: Policies): Field {
  if (!isIdentity(value, PURPOSE_MAX_CHARACTERS)) {
    return { field: 'purpose', message: identityRule(PURPOSE_MAX_CHARACTERS) };
  }
  return policies.allows(value) ? value
    : { field: 'purpose', message: 'must be one of the purposes that are allowed' };
}

/**
 * `code`: a string of ASCII digits, as many as a policy may ask for. Whether they are as many as
 * the pair's code has is seen when that is known: it keeps its length when the policy changes.
 *
 * @param digits the code length in force for the purpose, for the message
 */
export function parseCode(value: unknown, digits: number): Field {
  return isDigits(value) ? value : codeError(digits);
}

/** A code that has not so many digits. */
export function codeError(digits: number): FieldError {
  return { field: 'code', message: `must be a string of ${digits} digits` };
}

function isDigits(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  const { min, max } = POLICY_BOUNDS.codeDigits;
  if (value.length < min || value.length > max) return false;
  for (let at = 0; at < value.length; at += 1) {
    const unit = value.charCodeAt(at);
    if (unit < 0x30 || unit > 0x39) return false;
  }
  return true;
}
