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
  const countsAddress = input.clientIp !== null;
  const issue = issueInputOf(service, policies, input);
  if ('field' in issue) return invalidField(issue, policyHeaders(policies.default, countsAddress));
  const { userId, purpose } = issue;
  try {
    const outcome = await service.request(issue, input.isConnected);
    if (outcome.kind !== 'issued') return { ...answerOf(outcome), about: { userId, purpose } };
    const { otpId, replayed: isReplay } = outcome;
    return { ...answerOf(outcome), about: { userId, purpose, otpId, isReplay } };
  } catch (error) {
    const headers = policyHeaders(policies.for(purpose), countsAddress);
    return { ...responseForError(error, headers), about: { userId, purpose } };
  }
}

/** The first fault in the order body, key, user_id, purpose, reach; or the operation's input. */
function issueInputOf(
  service: OtpService,
  policies: Policies,
  { body, keys, apiClient, acceptLanguage, clientIp }: HandlerInput,
): OtpRequest | FieldError {
  const object = parseJsonObject(body, MEMBERS);
  if ('field' in object) return object;
  const key = requireIdempotencyKey(keys);
  if (typeof key !== 'string') return key;
  const userId = parseUserId(object.members.user_id);
  if (typeof userId !== 'string') return userId;
  const purpose = parsePurpose(object.members.purpose, policies);
  if (typeof purpose !== 'string') return purpose;
  const wanted = service.unreachable(userId);
  if (wanted !== null) return { field: 'user_id', message: `must be ${wanted}` };
  return { userId, purpose, clientIp, key, apiClient, acceptLanguage };
}

function answerOf(outcome: RequestOutcome): HttpResponse {
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
  const marked = outcome.replayed ? ['Idempotent-Replayed', 'true', ...headers] : headers;
  return { code: 'issued', body, headers: marked, close: false };
}

/**
 * RateLimit-Policy alone, for an answer that counted nothing: name and value.
 *
 * @param countsAddress false when no address is counted: then its limit is not named
 */
export function policyHeaders(policy: Policy, countsAddress: boolean): readonly string[] {
  const addressQuota = countsAddress ? policy.addressLimit : null;
  return ['RateLimit-Policy', policyText(policy.userLimit, addressQuota)];
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
let latest: Readonly<{ userQuota: number; addressQuota: number | null; text: string }>
  = { userQuota: 0, addressQuota: 0, text: '' };

function policyText(userQuota: number, addressQuota: number | null): string {
  if (userQuota !== latest.userQuota || addressQuota !== latest.addressQuota) {
    const user = `"user";q=${userQuota};w=${WINDOW_SECONDS}`;
    const text = addressQuota === null ? user
      : `${user}, "ip";q=${addressQuota};w=${WINDOW_SECONDS}`;
    latest = { userQuota, addressQuota, text };
  }
  return latest.text;
}
