/**
 * One OTP: GET and DELETE (docs/api.md, "GET /otp/{otp_id}" and "DELETE /otp/{otp_id}"), and the
 * report of a provider on its message (docs/api.md, "POST /sms/status/{report}").
 */
import type { HandlerInput, MethodHandler } from '../handler.ts';
import { allowsPurpose, NO_SCOPE } from '../input/api-keys.ts';
import { otpIdOf, reportOf } from '../input/request-head.ts';
import { toRfc3339 } from '../../otp/outcomes.ts';
import type { CancelOutcome, ReportOutcome, StatusOutcome } from '../../otp/outcomes.ts';
import type { OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse, invalidField } from '../response.ts';
import type { HttpResponse } from '../response.ts';

export function createStatusHandler(service: OtpService): MethodHandler {
  return {
    content: null,
    scopes: ['read'],
    parseKey: () => null,
    handle: (input) => getStatus(service, input),
  };
}

/**
 * Reads the state of an OTP. Never rejects: 200 known, 403 for a purpose that the API client may
 * not use, 404 unknown, 503 when the database does not answer, else 500.
 */
async function getStatus(
  service: OtpService,
  { path, purposes, isConnected, answerByMs }: HandlerInput,
): Promise<HttpResponse> {
  const otpId = otpIdOf(path);
  try {
    const outcome = await service.status(otpId, isConnected, answerByMs);
    const isForbidden = outcome.kind === 'known' && !allowsPurpose(purposes, outcome.purpose);
    return { ...(isForbidden ? NO_SCOPE : statusResponse(outcome)), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function statusResponse(outcome: StatusOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'known': return known(outcome);
    case 'unknown': return errorResponse('otp_not_found');
    default: return outcome satisfies never;
  }
}

function known(outcome: Extract<StatusOutcome, { kind: 'known' }>): HttpResponse {
  const body = JSON.stringify({
    otp_id: outcome.otpId,
    purpose: outcome.purpose,
    status: outcome.status,
    channel: outcome.channel,
    created_at: toRfc3339(outcome.createdAt),
    expires_at: toRfc3339(outcome.expiresAt),
  });
  return { code: 'known', body, headers: [], close: false };
}

const CANCELED: HttpResponse = Object.freeze(
  { code: 'canceled', body: '', headers: [], close: false },
);

export function createCancelHandler(service: OtpService): MethodHandler {
  return {
    content: null,
    scopes: ['request', 'admin'],
    parseKey: () => null,
    handle: (input) => cancelOtp(service, input),
  };
}

/**
 * Cancels an OTP. Never rejects: 204 when canceled now or earlier, 403 when another API client
 * requested it or its purpose is not allowed, 404 unknown, 410 used or expired, 503 when the
 * database does not answer, else 500.
 */
async function cancelOtp(
  service: OtpService,
  { path, apiClient, scopes, purposes, isConnected, answerByMs }: HandlerInput,
): Promise<HttpResponse> {
  const otpId = otpIdOf(path);
  const canceler = scopes.includes('admin') ? null : apiClient;
  try {
    const cancellation = { otpId, apiClient: canceler, purposes };
    const outcome = await service.cancel(cancellation, isConnected, answerByMs);
    return { ...cancelResponse(outcome), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function cancelResponse(outcome: CancelOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'canceled': return CANCELED;
    case 'unknown': return errorResponse('otp_not_found');
    case 'forbidden': return NO_SCOPE;
    case 'used': return errorResponse('code_used');
    case 'expired': return errorResponse('code_expired');
    default: return outcome.kind satisfies never;
  }
}

const REPORTED: HttpResponse = Object.freeze(
  { code: 'reported', body: '', headers: [], close: false },
);

/** @param notFound the response to an unknown path, which an unknown report must not differ from */
export function createReportHandler(
  report: NonNullable<OtpService['report']>,
  notFound: HttpResponse,
): MethodHandler {
  const toResponse = ({ kind }: ReportOutcome): HttpResponse => {
    switch (kind) {
      case 'noted': return REPORTED;
      case 'unknown': return notFound;
      case 'malformed': return invalidField({ field: 'MessageStatus', message: 'is required' });
      default: return kind satisfies never;
    }
  };
  return {
    content: 'form',
    scopes: null,
    parseKey: () => null,
    // Never rejects. The otp_id is logged only once the seal has proved it.
    handle: async ({ path, body, isConnected, answerByMs }) => {
      const sent = { ...reportOf(path), body: body.toString('utf8') };
      try {
        const outcome = await report(sent, isConnected, answerByMs);
        const context = outcome.kind === 'noted' ? { context: { otpId: sent.otpId } } : {};
        return { ...toResponse(outcome), ...context };
      } catch (error) {
        return { ...responseForError(error), context: { otpId: sent.otpId } };
      }
    },
  };
}
