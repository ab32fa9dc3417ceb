/**
 * A client of otpd (docs/client.md). Every answer is an outcome; a promise is rejected only for an
 * abort and for an argument that is no header or no URL. Nothing here writes a log.
 *
 * @import { CallOptions, ClientOptions, Failed, FailedError, OtpdClient, OtpStatus } from './index.d.ts'
 * @import { Refusal, Unavailable, Unknown } from './index.d.ts'
 */

const DEADLINE_MS = 10_000;

/** otpd answers within 3 s (docs/api.md, "Errors"); the rest is for the network. */
const ATTEMPT_MAX_MS = 4000;

const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2000;

/** Callers that were all told the same second do not all come back in the same millisecond. */
const RETRY_AFTER_JITTER_MS = 250;

/** otpd gave no answer (502, 504: a proxy), or says that a repeat may get one. */
const REPEATED = new Set([408, 409, 502, 503, 504]);

/**
 * A wrong code whose answer was lost counts again when it is repeated. One repeat is enough for a
 * connection that broke, and one call never uses up the three attempts of a pair.
 */
const LOST_VERIFICATIONS_MAX = 1;

/** Failures that happen before a byte of the request has left; only Node.js names them. */
const UNSENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT']);

/** otpd reads at most 8 device tokens of the header. */
const DEVICES_MAX = 8;
const DEVICE_TOKEN = /^[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]{38}$/;

/** @type {ReadonlySet<string>} */
const FAILED = new Set(/** @satisfies {FailedError[]} */ (['invalid_request', 'unauthorized',
  'forbidden', 'origin_not_allowed', 'not_found', 'method_not_allowed', 'payload_too_large',
  'unsupported_media_type', 'expectation_failed', 'misdirected_request', 'idempotency_key_reused',
  'headers_too_large', 'internal']));

/** @type {ReadonlySet<string>} */
const STATUSES = new Set(/** @satisfies {OtpStatus[]} */ (['pending', 'sent', 'failed', 'verified',
  'expired', 'superseded', 'locked', 'canceled']));

/**
 * A response that has arrived completely; `body` is {} unless it is a JSON object.
 *
 * @typedef {{ status: number, headers: Headers, body: Record<string, unknown> }} Answer
 * @typedef {{ lost: string, isSent: boolean }} Lost
 * @typedef {{ method: 'POST' | 'GET' | 'DELETE', path: string, headers: Headers,
 *   body?: string, lostMax: number }} Call
 */

/** @param {ClientOptions} options @returns {OtpdClient} */
export function createClient(options) {
  const base = new URL(options.url);
  if (!base.pathname.endsWith('/')) base.pathname += '/';

  /** @param {Call} call @param {CallOptions} chosen */
  const send = (call, { signal, deadlineMs = options.deadlineMs ?? DEADLINE_MS }) => {
    if (options.apiKey !== undefined) call.headers.set('Authorization', `Bearer ${options.apiKey}`);
    return untilAnswered(call, new URL(call.path, base), signal, deadlineMs,
      options.fetch ?? globalThis.fetch);
  };

  /** @param {Parameters<OtpdClient['verify']>[0] | Parameters<OtpdClient['request']>[0]} call */
  const headersOf = ({ clientIp, devices = [], idempotencyKey = newKey() }) => {
    const headers = new Headers({
      'Content-Type': 'application/json', 'Idempotency-Key': idempotencyKey,
    });
    if (clientIp !== undefined) {
      headers.set(options.apiKey === undefined ? 'X-Forwarded-For' : 'X-Client-IP', clientIp);
    }
    const tokens = devices.filter((token) => DEVICE_TOKEN.test(token)).slice(0, DEVICES_MAX);
    if (tokens.length > 0) headers.set('Otp-Device', tokens.join(', '));
    return headers;
  };

  return {
    async request(call) {
      const { userId, purpose, to, channel, locale } = call;
      const answer = await send({
        method: 'POST', path: 'otp/request', headers: headersOf(call), lostMax: Infinity,
        body: JSON.stringify({ user_id: userId, purpose, to, channel, locale }),
      }, call);
      return 'kind' in answer ? answer : requestOutcome(answer);
    },
    async verify(call) {
      const { userId, purpose, code, otpId } = call;
      const answer = await send({
        method: 'POST', path: 'otp/verify', headers: headersOf(call),
        lostMax: LOST_VERIFICATIONS_MAX,
        body: JSON.stringify({ user_id: userId, purpose, code, otp_id: otpId }),
      }, call);
      if ('kind' in answer) return answer;
      const outcome = verifyOutcome(answer);
      // otpd never repeats a code; what stands between might.
      const isEcho = outcome.kind === 'failed' && outcome.message?.includes(code);
      return isEcho ? { ...outcome, message: null } : outcome;
    },
    async status(otpId, chosen = {}) {
      const answer = await send(byId('GET', otpId), chosen);
      return 'kind' in answer ? answer : statusOutcome(answer);
    },
    async cancel(otpId, chosen = {}) {
      const answer = await send(byId('DELETE', otpId), chosen);
      return 'kind' in answer ? answer : cancelOutcome(answer);
    },
  };
}

/** @param {'GET' | 'DELETE'} method @param {string} otpId @returns {Call} */
function byId(method, otpId) {
  const path = `otp/${encodeURIComponent(otpId)}`;
  return { method, path, headers: new Headers(), lostMax: Infinity };
}

/** 128 random bits; crypto.randomUUID is missing on pages without TLS. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Sends a call, and repeats it until it is answered or the deadline would pass.
 *
 * @param {Call} call @param {URL} url @param {AbortSignal | undefined} signal
 * @param {number} deadlineMs @param {typeof fetch} send
 * @returns {Promise<Answer | Unavailable>}
 */
async function untilAnswered(call, url, signal, deadlineMs, send) {
  const endsAt = performance.now() + deadlineMs;
  let lostCount = 0;
  for (let attempt = 0; ; attempt += 1) {
    signal?.throwIfAborted();
    const leftMs = Math.max(0, endsAt - performance.now());
    const answer = await sendOnce(call, url, signal, Math.min(ATTEMPT_MAX_MS, leftMs), send);
    if ('lost' in answer) lostCount += answer.isSent ? 1 : 0;
    else if (!REPEATED.has(answer.status)) return answer;
    const seconds = 'lost' in answer ? null : retryAfterOf(answer);
    const pauseMs = seconds === null ? backoffMs(attempt)
      : seconds * 1000 + Math.random() * RETRY_AFTER_JITTER_MS;
    if (lostCount > call.lostMax || performance.now() + pauseMs >= endsAt) {
      return unavailable(answer, seconds);
    }
    await pause(pauseMs, signal);
  }
}

/**
 * @param {Call} call @param {URL} url @param {AbortSignal | undefined} signal
 * @param {number} boundMs @param {typeof fetch} send
 * @returns {Promise<Answer | Lost>}
 */
async function sendOnce({ method, headers, body }, url, signal, boundMs, send) {
  const controller = new AbortController();
  const onAbort = () => controller.abort();
  signal?.addEventListener('abort', onAbort);
  let isLate = false;
  const timer = setTimeout(() => { isLate = true; controller.abort(); }, boundMs);
  try {
    const response = await send(url, {
      method, headers, signal: controller.signal,
      // A redirect would carry the code to another server, and cookies are nobody's business.
      redirect: 'manual', credentials: 'omit', cache: 'no-store',
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: parse(text) };
  } catch (error) {
    signal?.throwIfAborted();
    const { name, cause } = /** @type {Error & { cause?: { code?: unknown } }} */ (error);
    const reason = typeof cause?.code === 'string' ? cause.code : name;
    return { lost: isLate ? 'timeout' : reason, isSent: isLate || !UNSENT.has(reason) };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** @param {string} text @returns {Record<string, unknown>} */
function parse(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** Between half of a doubling wait and all of it. @param {number} attempt */
function backoffMs(attempt) {
  const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
  return most * (0.5 + Math.random() / 2);
}

/** Whole seconds, or a date as proxies send it. @param {Answer} answer */
function retryAfterOf({ headers }) {
  const text = headers.get('Retry-After');
  if (text === null) return null;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, Math.ceil(seconds));
}

/** @param {number} ms @param {AbortSignal | undefined} signal @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** @param {Answer | Lost} answer @param {number | null} retryAfterSeconds @returns {Unavailable} */
function unavailable(answer, retryAfterSeconds) {
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

/** A text of another form is no error code, and may be anything. @param {Answer} answer */
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
function requestOutcome(answer) {
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
function verifyOutcome(answer) {
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
function statusOutcome(answer) {
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
function cancelOutcome(answer) {
  const requestId = requestIdOf(answer);
  if (answer.status === 204) return { kind: 'canceled', requestId };
  const kind = errorOf(answer);
  if (kind === 'otp_not_found' || kind === 'code_used' || kind === 'code_expired') {
    return { kind, requestId };
  }
  return otherOutcome(answer);
}
