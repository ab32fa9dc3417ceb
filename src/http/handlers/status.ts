/** GET /otp/{otp_id} (docs/api.md, "GET /otp/{otp_id}"). */
import type { MethodHandler } from '../handler.ts';
import { otpIdOf } from '../input/request-head.ts';
import { toRfc3339 } from '../../otp/outcomes.ts';
import type { StatusOutcome } from '../../otp/outcomes.ts';
import type { IsConnected, OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

export function createStatusHandler(service: OtpService): MethodHandler {
  return {
    takesJson: false,
    scopes: ['read'],
    parseKey: () => null,
    handle: ({ path, isConnected }) => getStatus(service, otpIdOf(path), isConnected),
  };
}

/**
 * Reads the state of an OTP. Never rejects: 200 known, 404 unknown, 503 when the database does not
 * answer, else 500.
 */
async function getStatus(
  service: OtpService,
  otpId: string,
  isConnected: IsConnected,
): Promise<HttpResponse> {
  try {
    return { ...toResponse(await service.status(otpId, isConnected)), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function toResponse(outcome: StatusOutcome): HttpResponse {
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
