/**
 * From a response to an outcome. Only what the contract names is passed on.
 *
 * @import { Failed, FailedError, OtpdClient, OtpStatus, Refusal } from './index.d.ts'
 * @import { Unavailable, Unknown } from './index.d.ts'
 */

/** @type {ReadonlySet<string>} */
const FAILED = new Set(/** @satisfies {FailedError[]} */ (['invalid_request', 'unauthorized',
  'forbidden', 'origin_not_allowed', 'not_found', 'method_not_allowed', 'payload_too_large',
  'unsupported_media_type', 'expectation_failed', 'misdirected_request', 'idempotency_key_reused',
  'headers_too_large', 'internal']));

/** @type {ReadonlySet<string>} */
const STATUSES = new Set(/** @satisfies {OtpStatus[]} */ (['pending', 'sent', 'failed', 'verified',
  'expired', 'superseded', 'locked', 'canceled']));

/**
 * A response that has arrived completely; `body` is {} unless it is a JSON object. Or none.
 *
 * @typedef {{ status: number, headers: Headers, body: Record<string, unknown> }} Answer
 * @typedef {{ lost: string, isSent: boolean }} Lost
 */

/** @param {string} text @returns {Record<string, unknown>} */
export function parse(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** Whole seconds, or a date as proxies send it. @param {Answer} answer */
export function retryAfterOf({ headers }) {
  const text = headers.get('Retry-After');
  if (text === null) return null;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, Math.ceil(seconds));
}

/** @param {Answer | Lost} answer @param {number | null} retryAfterSeconds @returns {Unavailable} */
export function unavailable(answer, retryAfterSeconds) {
  const isLost = 'lost' in answer;
  return {
    kind: 'unavailable', reason: isLost ? answer.lost : errorOf(answer) ?? String(answer.status),
    retryAfterSeconds, requestId: isLost ? null : requestIdOf(answer),
  };
}

/** @param {Answer} answer */
function requestIdOf({ headers }) {
  return headers.get('X-Request-Id');
}

/** A text of another form is not an error code, and may be anything. @param {Answer} answer */
function errorOf({ body: { error } }) {
  return typeof error === 'string' && /^[a-z_]{1,40}$/.test(error) ? error : null;
}

/** @param {unknown} value @returns {value is number} */
function isCount(value) {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** @param {Answer} answer */
function isReplayOf({ headers }) {
  return headers.get('Idempotent-Replayed') === 'true';
}

/** @param {unknown} value */
function textOrNull(value) {
  return typeof value === 'string' ? value : null;
}

/**
 * What no user can cause. The body of an unknown response is not passed on: it may repeat a code.
 *
 * @param {Answer} answer @returns {Failed | Unknown}
 */
function otherOutcome(answer) {
  const { status, body } = answer;
  const requestId = requestIdOf(answer);
  const error = errorOf(answer);
  if (error === null || !FAILED.has(error)) return { kind: 'unknown', status, error, requestId };
  return {
    kind: 'failed', status, error: /** @type {FailedError} */ (error), requestId,
    field: textOrNull(body.field), message: textOrNull(body.message),
  };
}

/** @param {Answer} answer @returns {Refusal | Failed | Unknown} */
function refusalOutcome(answer) {
  const { body } = answer;
  const requestId = requestIdOf(answer);
  const kind = errorOf(answer);
  if (kind === 'account_locked') return { kind, requestId };
  const { remaining_cooldown_seconds: cooldown, retry_after_seconds: lock } = body;
  if (kind === 'rate_limit_exceeded' && isCount(cooldown)) {
    return { kind, retryAfterSeconds: cooldown, requestId };
  }
  if (kind === 'too_many_attempts' && isCount(lock)) {
    return { kind, retryAfterSeconds: lock, requestId };
  }
  return otherOutcome(answer);
}

/** @param {Answer} answer @returns {Awaited<ReturnType<OtpdClient['request']>>} */
export function requestOutcome(answer) {
  const { otp_id: otpId, ttl, remaining_requests: remainingRequests } = answer.body;
  if (answer.status !== 201) return refusalOutcome(answer);
  if (typeof otpId !== 'string' || !isCount(ttl) || !isCount(remainingRequests)) {
    return otherOutcome(answer);
  }
  return {
    kind: 'sent', otpId, ttl, remainingRequests, isReplay: isReplayOf(answer),
    nextCodeInSeconds: nextCodeInSeconds(answer), requestId: requestIdOf(answer),
  };
}

/** The longest wait among the limits that have nothing left. @param {Answer} answer */
function nextCodeInSeconds({ headers }) {
  const limits = [...(headers.get('RateLimit') ?? '').matchAll(/"\w+";r=(\d+);t=(\d+)/g)];
  if (limits.length === 0) return null;
  return Math.max(0, ...limits.filter(([, left]) => Number(left) === 0)
    .map(([, , seconds]) => Number(seconds)));
}

/** @param {Answer} answer @returns {Awaited<ReturnType<OtpdClient['verify']>>} */
export function verifyOutcome(answer) {
  const { status, headers, body } = answer;
  const requestId = requestIdOf(answer);
  if (status === 200 && body.success === true) {
    return {
      kind: 'verified', device: headers.get('Otp-Device'), isReplay: isReplayOf(answer), requestId,
    };
  }
  const kind = errorOf(answer);
  const { attempts_remaining: attemptsRemaining } = body;
  switch (kind) {
    case 'invalid_code':
      return isCount(attemptsRemaining) ? { kind, attemptsRemaining, requestId }
        : otherOutcome(answer);
    case 'otp_not_found':
    case 'code_superseded':
    case 'code_used':
    case 'code_expired':
      return { kind, requestId };
    default:
      return refusalOutcome(answer);
  }
}

/** @param {Answer} answer @returns {Awaited<ReturnType<OtpdClient['status']>>} */
export function statusOutcome(answer) {
  const requestId = requestIdOf(answer);
  if (errorOf(answer) === 'otp_not_found') return { kind: 'otp_not_found', requestId };
  const { body } = answer;
  const [otpId, purpose, status, channel, createdAt, expiresAt] = [body.otp_id, body.purpose,
    body.status, body.channel, body.created_at, body.expires_at].map(textOrNull);
  if (answer.status !== 200 || !otpId || !purpose || !status || !channel || !createdAt
    || !expiresAt || !STATUSES.has(status)) return otherOutcome(answer);
  return {
    kind: 'known', otpId, purpose, status: /** @type {OtpStatus} */ (status), channel, createdAt,
    expiresAt, requestId,
  };
}

/** @param {Answer} answer @returns {Awaited<ReturnType<OtpdClient['cancel']>>} */
export function cancelOutcome(answer) {
  const requestId = requestIdOf(answer);
  if (answer.status === 204) return { kind: 'canceled', requestId };
  const kind = errorOf(answer);
  if (kind === 'otp_not_found' || kind === 'code_used' || kind === 'code_expired') {
    return { kind, requestId };
  }
  return otherOutcome(answer);
}
