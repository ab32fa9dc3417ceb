/** POST /otp/verify (docs/api.md, "POST /otp/verify"). */
import type { HandlerInput, MethodHandler } from '../handler.ts';
import {
  codeError, parseBoundOtpId, parseCode, parseJsonObject, parsePurpose, parseUserId,
} from '../input/body.ts';
import { allowsPurpose, NO_SCOPE } from '../input/api-keys.ts';
import { parseIdempotencyKey } from '../input/request-head.ts';
import { deviceOfToken } from '../../otp/crypto/devices.ts';
import type { OtpVerification, VerifyOutcome } from '../../otp/outcomes.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import type { OtpService } from '../../otp/service.ts';
import { retryLater, responseForError, errorResponse, invalidField } from '../response.ts';
import type { HttpResponse, FieldError, LogContext } from '../response.ts';

const MEMBERS: readonly string[] = Object.freeze(['user_id', 'purpose', 'code', 'otp_id']);

/** A 401 must name a challenge (RFC 9110, 15.5.2); this one asks for a one-time password. */
const CHALLENGE: readonly string[] = Object.freeze(['WWW-Authenticate', 'OTP realm="otpd"']);

const VERIFIED_BODY = '{"success":true,"message":"verification_successful"}';

export function createVerifyHandler(service: OtpService, policies: Policies): MethodHandler {
  return {
    content: 'json',
    scopes: ['verify'],
    parseKey: parseIdempotencyKey,
    handle: (input) => verifyOtp(service, policies, input),
  };
}

/**
 * Verifies a code. Never rejects: 200 verified, 400 for a field or the key, 401 wrong, 403 for a
 * locked account or a purpose that the API client may not use, 404 without an OTP, 410 superseded,
 * used or expired, 422 for a reused key, 429 locked or limited, 503 when the database does not
 * answer, else 500.
 */
async function verifyOtp(
  service: OtpService,
  policies: Policies,
  input: HandlerInput,
): Promise<HttpResponse> {
  const verification = parseVerification(policies, input);
  if ('field' in verification) return invalidField(verification);
  const { userId, purpose } = verification;
  if (!allowsPurpose(input.purposes, purpose)) return { ...NO_SCOPE, context: { userId, purpose } };
  try {
    const outcome = await service.verify(verification, input.isConnected, input.answerByMs);
    const isReplay = outcome.kind === 'verified' && outcome.replayed;
    const locks = 'begins' in outcome && outcome.begins;
    const { isTest = false } = outcome;
    const context = { userId, purpose, isReplay, locks, isTest, ...detailsOf(outcome) };
    return { ...toResponse(outcome), context };
  } catch (error) {
    return { ...responseForError(error), context: { userId, purpose } };
  }
}

/** What only some outcomes tell the log. */
function detailsOf(outcome: VerifyOutcome): LogContext | undefined {
  if (outcome.kind === 'limited') return { limitedBy: outcome.limitedBy };
  if (outcome.kind !== 'verified' || outcome.deviceToken === undefined) return undefined;
  return { device: deviceOfToken(outcome.deviceToken) };
}

/** Checks the body, the key, user_id, purpose, code and otp_id, in this order. */
function parseVerification(
  policies: Policies,
  { body, idempotencyKeys, apiClient, clientIp, clientNet48, deviceTokens }: HandlerInput,
): OtpVerification | FieldError {
  const object = parseJsonObject(body, MEMBERS);
  if ('field' in object) return object;
  const key = parseIdempotencyKey(idempotencyKeys);
  if (key !== null && typeof key !== 'string') return key;
  const userId = parseUserId(object.members.user_id);
  if (typeof userId !== 'string') return userId;
  const purpose = parsePurpose(object.members.purpose, policies);
  if (typeof purpose !== 'string') return purpose;
  const policy = policies.for(purpose);
  const code = parseCode(object.members.code, policy.codeDigits);
  if (typeof code !== 'string') return code;
  const otpId = parseBoundOtpId(object.members.otp_id, policy);
  if (otpId !== null && typeof otpId !== 'string') return otpId;
  return { userId, purpose, code, otpId, clientIp, clientNet48, key, apiClient, deviceTokens };
}

function toResponse(outcome: VerifyOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'verified': return verified(outcome);
    case 'malformed': return invalidField(codeError(outcome.digits));
    case 'key_reused': return errorResponse('idempotency_key_reused');
    case 'limited': return retryLater('rate_limit_exceeded', outcome.retryAfterSeconds);
    case 'account_locked': return errorResponse('account_locked');
    case 'locked': return retryLater('too_many_attempts', outcome.retryAfterSeconds);
    case 'not_found': return errorResponse('otp_not_found');
    case 'superseded': return errorResponse('code_superseded');
    case 'used': return errorResponse('code_used');
    case 'expired': return errorResponse('code_expired');
    case 'wrong':
      return errorResponse(
        'invalid_code', { attempts_remaining: outcome.attemptsRemaining }, CHALLENGE,
      );
    default: return outcome satisfies never;
  }
}

function verified(
  { replayed, deviceToken }: Extract<VerifyOutcome, { kind: 'verified' }>,
): HttpResponse {
  const headers = replayed ? ['Idempotent-Replayed', 'true'] : [];
  if (deviceToken !== undefined) headers.push('Otp-Device', deviceToken);
  return { code: 'verified', body: VERIFIED_BODY, headers, close: false };
}
