/**
 * The body of a request: reading it within its bound, parsing its JSON strictly (docs/api.md,
 * "Identity"; RFC 8259, sections 4 and 8.1), and checking its fields.
 */
import { Buffer, isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { Scope } from './api-keys.ts';
import type { ChannelName } from '../../otp/channels/channel.ts';
import { isAddress } from '../../otp/channels/recipients.ts';
import {
  identityRule, isIdentity, isOtpId, PURPOSE_MAX_CHARACTERS, USER_ID_MAX_CHARACTERS,
} from '../../otp/outcomes.ts';
import { POLICY_BOUNDS } from '../../otp/policy/policy.ts';
import type { Policies, Policy } from '../../otp/policy/policy.ts';
import { countStrings, findRepeatedMember } from '../../otp/policy/names.ts';
import { isWellFormedTag } from '../../otp/templates/language-tags.ts';
import type { ErrorCode, FieldError } from '../response.ts';

/** The largest body (docs/api.md, "Errors"): three times the longest valid body without escapes. */
export const BODY_MAX_BYTES = 4096;

/** The bytes, the error that ended the reading, or null when the client has disconnected. */
export type BodyResult = Buffer | ErrorCode | null;

export type BodyReading = Readonly<{
  result: Promise<BodyResult>;
  /** Ends the reading with an error of the parser or of a time limit. */
  fail: (code: ErrorCode) => void;
}>;

/**
 * Takes a body that has arrived in one piece with the header section, as nearly all bodies do. The
 * listeners and events of a stream would cost more than the rest of the exchange.
 *
 * @param declaredBytes the Content-Length, at most BODY_MAX_BYTES; null when absent
 * @returns the whole body, or null when it must be read as a stream
 */
export function takeBody(req: IncomingMessage, declaredBytes: number | null): Buffer | null {
  return req.readableLength === declaredBytes ? req.read() as Buffer | null : null;
}

/**
 * Reads a body of at most BODY_MAX_BYTES in any framing; the requestTimeout of the server bounds
 * the time and ends in `fail`. The result never rejects, and is `payload_too_large` at the first
 * byte over the bound (RFC 9110, 15.5.14).
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
  // A close without an end is a disconnected client; a close after an end changes nothing.
  req.on('close', () => settle(null));
  return { result, fail: settle };
}

/** The members of a body; the parsers of the fields check presence and type. */
type JsonObject = Readonly<{ members: Readonly<Record<string, unknown>> }>;

const BYTE_ORDER_MARK: FieldError = Object.freeze({
  field: 'body', message: 'must not begin with a byte order mark (EF BB BF)',
});

/** Parses a bounded body with known members; the error names `body` or the invalid member. */
export function parseJsonObject(
  body: Buffer,
  knownNames: readonly string[],
): JsonObject | FieldError {
  const text = body.toString('utf8');
  // Decoding replaces invalid UTF-8 by U+FFFD, so only a text with U+FFFD needs the check.
  if (text.includes('\ufffd') && !isUtf8(body)) return { field: 'body', message: 'must be UTF-8' };
  const value = parseJson(text);
  if (value === undefined && text.startsWith('\ufeff')) return BYTE_ORDER_MARK;
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
  // A flat object of n members has 2n strings; more mean a repeated member, of which JSON.parse
  // keeps the last only.
  if (isFlat && countStrings(text) !== 2 * names.length) {
    return { field: displayName(findRepeatedMember(text) ?? ''), message: 'must occur once' };
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

/** Repeats a short plain identifier; any other name is untrusted text and becomes `body`. */
function displayName(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]{0,31}$/.test(name) ? name : 'body';
}

type Field = string | FieldError;

export function parseUserId(value: unknown): Field {
  return isIdentity(value, USER_ID_MAX_CHARACTERS) ? value
    : { field: 'user_id', message: identityRule(USER_ID_MAX_CHARACTERS) };
}

export function parsePurpose(value: unknown, policies: Policies): Field {
  if (!isIdentity(value, PURPOSE_MAX_CHARACTERS)) {
    return { field: 'purpose', message: identityRule(PURPOSE_MAX_CHARACTERS) };
  }
  return policies.allows(value) ? value
    : { field: 'purpose', message: 'must be one of the purposes that are allowed' };
}

const TO_NEEDS_SCOPE: FieldError = Object.freeze({
  field: 'to',
  message: 'needs an API key with the scope to, because who names it receives the codes of others',
});
const TO_RULE = 'must be a phone number such as +14155550123 or an e-mail address';

/** Null when the message goes to the user_id. */
export function parseTo(value: unknown, scopes: readonly Scope[]): Field | null {
  if (value === undefined) return null;
  if (!scopes.includes('to')) return TO_NEEDS_SCOPE;
  return typeof value === 'string' && isAddress(value) ? value : { field: 'to', message: TO_RULE };
}

/** Null when a request names no channel. */
export function parseChannel(
  value: unknown,
  names: readonly ChannelName[],
): ChannelName | FieldError | null {
  if (value === undefined) return null;
  return names.find((name) => name === value)
    ?? { field: 'channel', message: `must be ${names.join(' or ')}` };
}

/** Null when a request names no language. */
export function parseLocale(value: unknown): Field | null {
  if (value === undefined) return null;
  return typeof value === 'string' && isWellFormedTag(value) ? value
    : { field: 'locale', message: 'must be a language tag such as de or pt-BR' };
}

/**
 * Accepts any length that a policy may set: an issued code keeps its length when the policy
 * changes, so the service compares lengths.
 *
 * @param digits the length in force for the purpose, for the message
 */
export function parseCode(value: unknown, digits: number): Field {
  return isDigits(value) ? value : codeError(digits);
}

export function codeError(digits: number): FieldError {
  return { field: 'code', message: `must be a string of ${digits} digits` };
}

const OTP_ID_RULE = 'must be the otp_id of a request, a string of 32 lower-case hexadecimal digits';

/** Null when a verification names no OTP, and need not. */
export function parseBoundOtpId(value: unknown, { requiresOtpId }: Policy): Field | null {
  if (value === undefined && !requiresOtpId) return null;
  return typeof value === 'string' && isOtpId(value) ? value
    : { field: 'otp_id', message: OTP_ID_RULE };
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
