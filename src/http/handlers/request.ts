/** POST /otp/request (docs/api.md, "POST /otp/request"). */
import type { HandlerInput, MethodHandler } from '../handler.ts';
import {
  parseChannel, parseJsonObject, parseLocale, parsePurpose, parseTo, parseUserId,
} from '../input/body.ts';
import { allowsPurpose, NO_SCOPE } from '../input/api-keys.ts';
import { requireIdempotencyKey } from '../input/request-head.ts';
import type { ClientAddress, Limits, OtpRequest, RequestOutcome } from '../../otp/outcomes.ts';
import { LIMIT_WINDOW_SECONDS } from '../../otp/policy/policy.ts';
import type { LimitName, NamedQuota, Policies, Policy } from '../../otp/policy/policy.ts';
import { limitsOfClient } from '../../otp/rules/ip-limit.ts';
import type { OtpService } from '../../otp/service.ts';
import {
  retryLater, responseForError, errorResponse, invalidField, withHeaders,
} from '../response.ts';
import type { HttpResponse, FieldError } from '../response.ts';

const MEMBERS: readonly string[] = Object.freeze([
  'user_id', 'purpose', 'to', 'channel', 'locale',
]);

export function createRequestHandler(service: OtpService, policies: Policies): MethodHandler {
  return {
    content: 'json',
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
  const request = parseOtpRequest(service, policies, input);
  if ('field' in request) {
    return invalidField(request, policyHeaders(policies.default, input));
  }
  const { userId, purpose } = request;
  if (!allowsPurpose(input.purposes, purpose)) {
    const headers = policyHeaders(policies.for(purpose), input);
    return { ...withHeaders(NO_SCOPE, headers), context: { userId, purpose } };
  }
  try {
    const outcome = await service.request(request, input.isConnected, input.answerByMs);
    const { isTest = false } = outcome;
    if (outcome.kind === 'limited') {
      const { limitedBy } = outcome;
      return { ...toResponse(outcome), context: { userId, purpose, limitedBy, isTest } };
    }
    if (outcome.kind !== 'issued') {
      return { ...toResponse(outcome), context: { userId, purpose, isTest } };
    }
    const { otpId, replayed: isReplay } = outcome;
    return { ...toResponse(outcome), context: { userId, purpose, otpId, isReplay, isTest } };
  } catch (error) {
    const headers = policyHeaders(policies.for(purpose), input);
    return { ...responseForError(error, headers), context: { userId, purpose } };
  }
}

/**
 * Checks the body, the key, user_id, purpose, to, channel, locale and whether a channel reaches the
 * recipient, in this order.
 */
function parseOtpRequest(
  service: OtpService,
  policies: Policies,
  input: HandlerInput,
): OtpRequest | FieldError {
  const { body, idempotencyKeys, apiClient, clientIp, clientNet48, scopes } = input;
  const { acceptLanguage, deviceTokens } = input;
  const object = parseJsonObject(body, MEMBERS);
  if ('field' in object) return object;
  const key = requireIdempotencyKey(idempotencyKeys);
  if (typeof key !== 'string') return key;
  const userId = parseUserId(object.members.user_id);
  if (typeof userId !== 'string') return userId;
  const purpose = parsePurpose(object.members.purpose, policies);
  if (typeof purpose !== 'string') return purpose;
  const to = parseTo(object.members.to, scopes);
  if (to !== null && typeof to !== 'string') return to;
  const channel = parseChannel(object.members.channel, service.channelNames);
  if (channel !== null && typeof channel !== 'string') return channel;
  const locale = parseLocale(object.members.locale);
  if (locale !== null && typeof locale !== 'string') return locale;
  const format = service.unreachable(to ?? userId, channel);
  if (format !== null) return unreachable(format, to, channel);
  return {
    userId, purpose, to, channel, locale,
    clientIp, clientNet48, key, apiClient, acceptLanguage, deviceTokens,
  };
}

/** The field of an address that no channel reaches, or not the one that was named. */
function unreachable(format: string, to: string | null, channel: string | null): FieldError {
  if (to !== null) return { field: 'to', message: `must be ${format}` };
  return channel === null ? { field: 'user_id', message: `must be ${format}` }
    : { field: 'channel', message: `cannot reach the user_id, which must be ${format}` };
}

function toResponse(outcome: RequestOutcome): HttpResponse {
  const headers = limitHeaders(outcome.limits);
  switch (outcome.kind) {
    case 'issued': return issued(outcome, headers);
    case 'key_reused': return errorResponse('idempotency_key_reused', null, headers);
    case 'account_locked': return errorResponse('account_locked', null, headers);
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

/** RateLimit-Policy for a response that counts nothing: the limits that are known of a client. */
export function policyHeaders(policy: Policy, client: ClientAddress): readonly string[] {
  const limits = limitsOfClient(policy, client);
  return limits.length === 0 ? [] : ['RateLimit-Policy', policyText(limits)];
}

/** RateLimit-Policy and RateLimit: names and values in turn. */
function limitHeaders(limits: Limits): readonly string[] {
  if (limits.length === 0) return [];
  let left = '';
  for (const { limit, remaining, resetSeconds } of limits) {
    left += `${left === '' ? '' : ', '}"${headerName(limit)}";r=${remaining};t=${resetSeconds}`;
  }
  return ['RateLimit-Policy', policyText(limits), 'RateLimit', left];
}

function headerName(limit: LimitName): string {
  return limit === 'address' ? 'ip' : limit;
}

/** The last text is cached because nearly all responses follow one policy. */
let lastPolicy: Readonly<{ limits: readonly NamedQuota[]; text: string }>
  = { limits: [], text: '' };

function policyText(limits: readonly NamedQuota[]): string {
  if (!areSame(limits, lastPolicy.limits)) {
    const text = limits.map(({ limit, quota }) =>
      `"${headerName(limit)}";q=${quota};w=${LIMIT_WINDOW_SECONDS[limit]}`).join(', ');
    lastPolicy = { limits, text };
  }
  return lastPolicy.text;
}

function areSame(some: readonly NamedQuota[], others: readonly NamedQuota[]): boolean {
  return some.length === others.length && some.every(({ limit, quota }, index) =>
    limit === others[index]!.limit && quota === others[index]!.quota);
}
