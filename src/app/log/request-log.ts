/** The access log: the event of each outcome (OWASP Logging Vocabulary) and its members. */
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { AccessRecord, RequestLog } from '../../http/access-log.ts';
import type { RequestError } from '../../http/connection.ts';
import { STATUS } from '../../http/response.ts';
import type { AdminCode, ResponseCode } from '../../http/response.ts';
import {
  member, LOGGED_PURPOSE_MAX_CHARACTERS, LOGGED_USER_MAX_CHARACTERS, WORD_MAX_CHARACTERS,
} from './line.ts';
import type { Level } from './line.ts';
import { describeError } from './log.ts';
import type { Log } from './log.ts';
import type { Pseudonyms } from '../../otp/crypto/secrets.ts';

type EventKind = Readonly<{ level: Level; event: string }>;

const MALFORMED: EventKind = Object.freeze({ level: 'warn', event: 'input_validation_fail' });
const FAILED_LOGIN: EventKind = Object.freeze({ level: 'warn', event: 'authn_login_fail' });

/** The client closed the connection before the response. */
const GONE: EventKind = Object.freeze({ level: 'info', event: 'client_gone' });

/** The wrong code that locks the pair or the account; every later attempt. */
const LOCK: EventKind = Object.freeze({ level: 'warn', event: 'authn_login_lock' });
const MAX_FAILED: EventKind = Object.freeze({ level: 'warn', event: 'authn_login_fail_max' });

/** What an API client does for a user on the admin listener. */
const ADMIN: EventKind = Object.freeze({ level: 'warn', event: 'authz_admin' });

const KIND_BY_CODE: Readonly<Record<Exclude<ResponseCode, AdminCode>, EventKind>> = Object.freeze({
  issued: { level: 'info', event: 'authn_token_created' },
  verified: { level: 'info', event: 'authn_login_success' },
  known: { level: 'info', event: 'sensitive_read' },
  described: { level: 'info', event: 'description_read' },
  canceled: { level: 'info', event: 'authn_token_revoked' },
  reported: { level: 'info', event: 'delivery_report' },
  preflight: { level: 'info', event: 'browser_preflight' },
  invalid_request: MALFORMED,
  unauthorized: FAILED_LOGIN,
  invalid_code: FAILED_LOGIN,
  forbidden: { level: 'warn', event: 'authz_fail' },
  origin_not_allowed: { level: 'warn', event: 'authz_fail' },
  not_found: MALFORMED,
  otp_not_found: MALFORMED,
  method_not_allowed: MALFORMED,
  request_timeout: MALFORMED,
  code_superseded: MALFORMED,
  code_used: MALFORMED,
  code_expired: MALFORMED,
  payload_too_large: MALFORMED,
  unsupported_media_type: MALFORMED,
  expectation_failed: MALFORMED,
  idempotency_key_reused: MALFORMED,
  account_locked: MAX_FAILED,
  too_many_attempts: MAX_FAILED,
  rate_limit_exceeded: { level: 'warn', event: 'excess_rate_limit_exceeded' },
  headers_too_large: MALFORMED,
  internal: { level: 'error', event: 'request_failed' },
  unavailable: { level: 'warn', event: 'request_failed' },
  shown: ADMIN,
  unlocked: ADMIN,
  not_locked: ADMIN,
  revoked: ADMIN,
  user_not_found: ADMIN,
});

/** On the verify route, what redeems no OTP is a failed login. */
const VERIFY_ROUTE = '/otp/verify';
const VERIFY_KINDS: Readonly<Record<string, EventKind>> = Object.freeze({
  otp_not_found: FAILED_LOGIN,
  code_superseded: FAILED_LOGIN,
  code_used: { level: 'warn', event: 'authn_token_reuse' },
  code_expired: FAILED_LOGIN,
  idempotency_key_reused: FAILED_LOGIN,
});

export function createRequestLog(log: Log, pseudonyms: Pseudonyms): RequestLog {
  let pending: AccessRecord[] = [];
  const writeAll = (): void => {
    const records = pending;
    pending = [];
    for (const record of records) {
      const { level, event } = eventOf(record);
      const subject = event === ADMIN.event ? null : limitedSubject(record, pseudonyms);
      if (subject !== null && !log.admits(level, event, subject)) continue;
      log.log(level, event, membersOf(record, pseudonyms));
    }
  };
  return Object.freeze({
    wants: (code: ResponseCode | null) => log.isEnabled(kindOf(code).level),
    // The responses of a batch are sent first, without a log line between them.
    log: (record: AccessRecord) => {
      if (pending.push(record) === 1) setImmediate(writeAll);
    },
  });
}

/** Logs errors that belong to no access record, of both listeners. */
export function createErrorLog(log: Log): (error: RequestError) => void {
  return ({ requestId, route, error }) => {
    const { level, event } = kindOf('internal');
    if (!log.admits(level, event, '')) return;
    log.log(level, event, member('request_id', requestId, WORD_MAX_CHARACTERS)
      + member('route', route, WORD_MAX_CHARACTERS) + describeError(error, true));
  };
}

function kindOf(code: ResponseCode | null): EventKind {
  return code === null ? GONE : KIND_BY_CODE[code as Exclude<ResponseCode, AdminCode>];
}

function eventOf({ code, route, context }: AccessRecord): EventKind {
  if (context?.locks === true) return LOCK;
  return (route === VERIFY_ROUTE ? VERIFY_KINDS[code ?? ''] : undefined) ?? kindOf(code);
}

/**
 * The member that names who caused a line, if such lines are limited. The lines of codes that were
 * issued, redeemed or guessed at are bounded by the limits of the policy, and are never withheld.
 *
 * @returns null when the line is always written
 */
function limitedSubject(
  { code, context, clientIp, remoteAddress, apiClient }: AccessRecord,
  pseudonyms: Pseudonyms,
): string | null {
  const isGuess = code === 'invalid_code' || context?.locks === true;
  const isChange = (code === 'issued' || code === 'verified') && context?.isReplay !== true;
  if (isGuess || isChange) return null;
  if (clientIp !== null) return clientMember('client', clientIp, pseudonyms);
  if (apiClient === null) return clientMember('peer', remoteAddress, pseudonyms);
  if (context?.userId !== undefined) return userMember(context.userId, pseudonyms);
  // What an API client sends and otpd cannot read may be the words of a stranger.
  return code === 'known' || code === 'canceled' ? null : callerMember(apiClient);
}

function callerMember(apiClient: string | null): string {
  return apiClient === null ? '' : `,"caller":"${apiClient}"`;
}

function clientMember(
  name: 'client' | 'peer',
  address: string | null | undefined,
  pseudonyms: Pseudonyms,
): string {
  if (address === null || address === undefined) return '';
  return member(name, pseudonyms.clientIp(address), WORD_MAX_CHARACTERS);
}

function userMember(userId: string | undefined, pseudonyms: Pseudonyms): string {
  if (userId === undefined) return '';
  return member('user', pseudonyms.user(userId), LOGGED_USER_MAX_CHARACTERS);
}

/** Values that contain no character to escape are inserted directly, for speed. */
function membersOf(record: AccessRecord, pseudonyms: Pseudonyms): string {
  const { requestId, route, method, code, isAnswered, durationMs, apiClient, traceparent } = record;
  const { remoteAddress, clientIp, context, error } = record;
  return `,"request_id":"${requestId}","route":"${route}"`
    + (method === '' ? '' : `,"method":"${method}"`)
    + (code === null || !isAnswered ? '' : `,"status":${STATUS[code]}`)
    + `,"outcome":"${code ?? GONE.event}"`
    + (code === null || isAnswered ? '' : ',"client_gone":true')
    + (durationMs === null ? '' : `,"duration_ms":${rounded(durationMs)}`)
    + (context === undefined ? '' : membersOfContext(context, pseudonyms))
    + clientMember('client', clientIp, pseudonyms)
    + clientMember('peer', remoteAddress, pseudonyms)
    + callerMember(apiClient)
    + (traceparent === null ? '' : `,"traceparent":"${traceparent}"`)
    + (error === undefined ? '' : describeError(error, code === 'internal'));
}

function membersOfContext(
  context: NonNullable<AccessRecord['context']>,
  pseudonyms: Pseudonyms,
): string {
  const { userId, purpose, otpId, device, field, limitedBy, isReplay, isTest } = context;
  return userMember(userId, pseudonyms)
    + member('purpose', purpose, LOGGED_PURPOSE_MAX_CHARACTERS)
    + (otpId === undefined ? '' : `,"otp_id":"${otpId}"`)
    + (device === undefined ? '' : `,"device":"${device}"`)
    + member('field', field, WORD_MAX_CHARACTERS)
    + (limitedBy === undefined ? '' : `,"limit":"${limitedBy.join()}"`)
    + (isReplay === true ? ',"replayed":true' : '')
    + (isTest === true ? ',"test_identity":true' : '');
}

function rounded(ms: number): number {
  return Math.round(ms * MICROSECONDS_PER_MILLISECOND) / MICROSECONDS_PER_MILLISECOND;
}
