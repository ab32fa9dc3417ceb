/** POST /otp/request (docs/api.md, "POST /otp/request"). */
import type { HandlerInput, MethodHandler } from '../handler.ts';
import { parseJsonObject, parsePurpose, parseUserId } from '../input/body.ts';
import { allowsPurpose, NO_SCOPE } from '../input/api-keys.ts';
import { requireIdempotencyKey } from '../input/request-head.ts';
import type { OtpRequest, RequestOutcome, Limits } from '../../otp/outcomes.ts';
import { WINDOW_SECONDS } from '../../otp/policy/policy.ts';
import type { Policies, Policy } from '../../otp/policy/policy.ts';
import type { OtpService } from '../../otp/service.ts';
import {
  retryLater, responseForError, errorResponse, invalidField, withHeaders,
} from '../response.ts';
import type { HttpResponse, FieldError } from '../response.ts';

const MEMBERS: readonly string[] = Object.freeze(['user_id', 'purpose']);

export function createRequestHandler(service: OtpService, policies: Policies): MethodHandler {
  return {
    takesJson: true,
    scopes: ['request'],
    parseKey: requireIdempotencyKey,
    handle: (input) => requestOtp(service, policies, input),
  };
}

/**
 * Requests an OTP. Never rejects: 201 issued, 400 for a field, the key or an unreachable user, 403
 * for a purpose that the API client may not use, 422 for a reused key, 429 locked or limited, 503
 * when the database does not answer, else 500.
 */
async function requestOtp(
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
  if (!allowsPurpose(input.purposes, purpose)) {
    const headers = policyHeaders(policies.for(purpose), countsClientIp);
    return { ...withHeaders(NO_SCOPE, headers), context: { userId, purpose } };
  }
  try {
    const outcome = await service.request(request, input.isConnected, input.answerByMs);
    if (outcome.kind !== 'issued') return { ...toResponse(outcome), context: { userId, purpose } };
    const { otpId, replayed: isReplay } = outcome;
    return { ...toResponse(outcome), context: { userId, purpose, otpId, isReplay } };
  } catch (error) {
    const headers = policyHeaders(policies.for(purpose), countsClientIp);
    return { ...responseForError(error, headers), context: { userId, purpose } };
  }
}

/** Checks the body, the key, user_id, purpose and whether a channel reaches the user. */
function parseOtpRequest(
  service: OtpService,
  policies: Policies,
  { body, idempotencyKeys, apiClient, acceptLanguage, clientIp, clientNet48 }: HandlerInput,
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
  return { userId, purpose, clientIp, clientNet48, key, apiClient, acceptLanguage };
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
  // A hexadecimal id needs no escaping.
  const body = `{"otp_id":"${outcome.otpId}","ttl":${outcome.ttlSeconds},`
    + `"remaining_requests":${outcome.remainingRequests}}`;
  const allHeaders = outcome.replayed ? ['Idempotent-Replayed', 'true', ...headers] : headers;
  return { code: 'issued', body, headers: allHeaders, close: false };
}

/** RateLimit-Policy for a response that counts nothing; it omits the limit of an uncounted IP. */
export function policyHeaders(policy: Policy, countsClientIp: boolean): readonly string[] {
  const ipQuota = countsClientIp ? policy.addressLimit : null;
  return ['RateLimit-Policy', policyText(policy.userLimit, ipQuota)];
}

/** RateLimit-Policy and RateLimit: names and values in turn. */
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

/** The last text is cached because nearly all responses follow one policy. */
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
