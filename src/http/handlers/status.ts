/** GET /otp/{otp_id}: from an id to a plain answer. */
import { toRfc3339 } from '../../otp/outcomes.ts';
import type { StatusOutcome } from '../../otp/outcomes.ts';
import type { IsConnected, OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

/**
 * Tells what became of a code. Never rejects.
 *
 * @param otpId 32 lower-case hexadecimal digits
 * @returns 200 known, 404 unknown, 503 when the database cannot answer, 500 for anything else
 */
export async function getStatus(
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
