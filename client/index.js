/**
 * A client of otpd (docs/client.md). Every answer is an outcome; a promise is rejected only for an
 * abort and for an argument that cannot be a header or a URL. Nothing here writes a log.
 *
 * @import { CallOptions, ClientOptions, OtpdClient, RequestCall } from './index.d.ts'
 * @import { Unavailable, VerifyCall } from './index.d.ts'
 * @import { Answer, Lost } from './outcomes.js'
 */
import {
  cancelOutcome, parse, requestOutcome, retryAfterOf, statusOutcome, unavailable, verifyOutcome,
} from './outcomes.js';

const DEADLINE_MS = 10_000;

/** otpd answers within 3 s (docs/api.md, "Errors"); the rest is for the network. */
const ATTEMPT_MAX_MS = 4000;

const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2000;

/** Callers that were all told the same second do not all come back in the same millisecond. */
const RETRY_AFTER_JITTER_MS = 250;

/** A repeat may get an answer. */
const REPEATED = new Set([408, 409, 502, 503, 504]);

/** A proxy says that it got no answer: as if the connection had broken. */
const LOST = new Set([502, 504]);

/** After this time a 503 may mean that otpd does not know whether the request took effect. */
const IN_DOUBT_MS = 1900;

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

/**
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
  const addressHeader = options.apiKey === undefined ? 'X-Forwarded-For' : 'X-Client-IP';

  return {
    async request(call) {
      const { userId, purpose, to, channel, locale } = call;
      const answer = await send({
        method: 'POST', path: 'otp/request', lostMax: Infinity,
        headers: headersOf(call, addressHeader),
        body: JSON.stringify({ user_id: userId, purpose, to, channel, locale }),
      }, call);
      return 'kind' in answer ? answer : requestOutcome(answer);
    },
    async verify(call) {
      const { userId, purpose, code, otpId } = call;
      const answer = await send({
        method: 'POST', path: 'otp/verify', lostMax: LOST_VERIFICATIONS_MAX,
        headers: headersOf(call, addressHeader),
        body: JSON.stringify({ user_id: userId, purpose, code, otp_id: otpId }),
      }, call);
      if ('kind' in answer) return answer;
      const outcome = verifyOutcome(answer);
      // otpd never repeats a code; a proxy in between might.
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

/** @param {RequestCall | VerifyCall} call @param {string} addressHeader */
function headersOf({ clientIp, devices = [], idempotencyKey = newKey() }, addressHeader) {
  const headers = new Headers({
    'Content-Type': 'application/json', 'Idempotency-Key': idempotencyKey,
  });
  if (clientIp !== undefined) headers.set(addressHeader, clientIp);
  const tokens = devices.filter((token) => DEVICE_TOKEN.test(token)).slice(0, DEVICES_MAX);
  if (tokens.length > 0) headers.set('Otp-Device', tokens.join(', '));
  return headers;
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
    const startedAt = performance.now();
    const leftMs = Math.max(0, endsAt - startedAt);
    const answer = await sendOnce(call, url, signal, Math.min(ATTEMPT_MAX_MS, leftMs), send);
    if ('status' in answer && !REPEATED.has(answer.status)) return answer;
    const isInDoubt = performance.now() - startedAt >= IN_DOUBT_MS;
    if ('lost' in answer ? answer.isSent : LOST.has(answer.status) || isInDoubt) lostCount += 1;
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
      // A redirect would carry the code to another server, and otpd uses no cookies.
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

/** Between half of a doubling wait and all of it. @param {number} attempt */
function backoffMs(attempt) {
  const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
  return most * (0.5 + Math.random() / 2);
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
