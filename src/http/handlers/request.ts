/** POST /otp/request: from plain input to a plain answer. */
import type { HandlerInput } from '../handler.ts';
import { parseJsonObject, parsePurpose, parseUserId } from '../input/body.ts';
import { requireIdempotencyKey } from '../input/request-headers.ts';
import type { OtpRequest, RequestOutcome, Limits } from '../../otp/outcomes.ts';
import { WINDOW_SECONDS } from '../../otp/policy/policy.ts';
import type { Policies, Policy } from '../../otp/policy/policy.ts';
import type { OtpService } from '../../otp/service.ts';
import { retryLater, responseForError, errorResponse, invalidField } from '../response.ts';
import type { HttpResponse, FieldError } from '../response.ts';

const MEMBERS: readonly string[] = Object.freeze(['user_id', 'purpose']);

/**
 * Issues a code (contract, "POST /otp/request"). Never rejects.
 *
 * @returns 201 issued, 400 for a field, the key or a user out of reach, 422 for a reused key,
 *   429 when locked or limited, 503 when the database cannot answer, 500 for anything else
 */
export async function requestOtp(
  service: OtpService,
  policies: Policies,
  input: HandlerInput,
): Promise<HttpResponse> {
  const countsClientIp = input.clientIp !== null;
  const request = parseOtpRequest(service, policies, input);
  if ('field' in request) {
    return invalidField(request, policyHeaders(policies.default, countsClientIp));
  }
  const { userId, purpose } = request;
  try {
    const outcome = await service.request(request, input.isConnected);
    if (outcome.kind !== 'issued') return { ...toResponse(outcome), context: { userId, purpose } };
    const { otpId, replayed: isReplay } = outcome;
    return { ...toResponse(outcome), context: { userId, purpose, otpId, isReplay } };
  } catch (error) {
    const headers = policyHeaders(policies.for(purpose), countsClientIp);
    return { ...responseForError(error, headers), context: { userId, purpose } };
  }
}

/** The first fault in the order body, key, user_id, purpose, reach; or the operation's input. */
function parseOtpRequest(
  service: OtpService,
  policies: Policies,
  { body, idempotencyKeys, apiClient, acceptLanguage, clientIp }: HandlerInput,
): OtpRequest | FieldError {
  const object = parseJsonObject(body, MEMBERS);
  if ('field' in object) return object;
  const key = requireIdempotencyKey(idempotencyKeys);
  if (typeof key !== 'string') return key;
  const userId = parseUserId(object.members.user_id);
  if (typeof userId !== 'string') return userId;
  const purpose = parsePurpose(object.members.purpose, policies);
  if (typeof purpose !== 'string') return purpose;
  const format = service.unreachable(userId);
  if (format !== null) return { field: 'user_id', message: `must be ${format}` };
  return { userId, purpose, clientIp, key, apiClient, acceptLanguage };
}

function toResponse(outcome: RequestOutcome): HttpResponse {
  const headers = limitHeaders(outcome.limits);
  switch (outcome.kind) {
    case 'issued': return issued(outcome, headers);
    case 'key_reused': return errorResponse('idempotency_key_reused', null, headers);
    case 'locked': return retryLater('too_many_attempts', outcome.retryAfterSeconds, headers);
    case 'limited': return retryLater('rate_limit_exceeded', outcome.retryAfterSeconds, headers);
    default: return outcome satisfies never;
  }
}

function issued(
  outcome: Extract<RequestOutcome, { kind: 'issued' }>,
  headers: readonly string[],
): HttpResponse {
  // An id is hexadecimal: nothing in it needs an escape.
  const body = `{"otp_id":"${outcome.otpId}","ttl":${outcome.ttlSeconds},`
    + `"remaining_requests":${outcome.remainingRequests}}`;
  const allHeaders = outcome.replayed ? ['Idempotent-Replayed', 'true', ...headers] : headers;
  return { code: 'issued', body, headers: allHeaders, close: false };
}

/**
 * RateLimit-Policy alone, for an answer that counted nothing: name and value.
 *
 * @param countsClientIp false when no address is counted: then its limit is not named
 */
export function policyHeaders(policy: Policy, countsClientIp: boolean): readonly string[] {
  const ipQuota = countsClientIp ? policy.addressLimit : null;
  return ['RateLimit-Policy', policyText(policy.userLimit, ipQuota)];
}

/** RateLimit-Policy and RateLimit, for an answer that knows what is left: names and values. */
function limitHeaders({ user, address }: Limits): readonly string[] {
  const userLimit = `"user";r=${user.remaining};t=${user.resetSeconds}`;
  if (address === null) {
    return ['RateLimit-Policy', policyText(user.quota, null), 'RateLimit', userLimit];
  }
  return [
    'RateLimit-Policy', policyText(user.quota, address.quota),
    'RateLimit', `${userLimit}, "ip";r=${address.remaining};t=${address.resetSeconds}`,
  ];
}

/** The text that was made last: nearly all answers follow one policy. */
let lastPolicy: Readonly<{ userQuota: number; ipQuota: number | null; text: string }>
  = { userQuota: 0, ipQuota: 0, text: '' };

function policyText(userQuota: number, ipQuota: number | null): string {
  if (userQuota !== lastPolicy.userQuota || ipQuota !== lastPolicy.ipQuota) {
    const user = `"user";q=${userQuota};w=${WINDOW_SECONDS}`;
    const text = ipQuota === null ? user
      : `${user}, "ip";q=${ipQuota};w=${WINDOW_SECONDS}`;
    lastPolicy = { userQuota, ipQuota, text };
  }
  return lastPolicy.text;
}
