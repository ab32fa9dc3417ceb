/** DELETE /otp/{otp_id}: from an id to a plain answer. */
import type { CancelOutcome } from '../../otp/outcomes.ts';
import type { IsConnected, OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

const CANCELED: HttpResponse = Object.freeze(
  { code: 'canceled', body: '', headers: [], close: false },
);

/**
 * Cancels a code. Never rejects.
 *
 * @param otpId 32 lower-case hexadecimal digits
 * @returns 204 canceled, also when it was before; 404 unknown, 410 used or expired, 503 when the
 *   database cannot answer, 500 for anything else
 */
export async function cancelOtp(
  service: OtpService,
  otpId: string,
  isConnected: IsConnected,
): Promise<HttpResponse> {
  try {
    return { ...toResponse(await service.cancel(otpId, isConnected)), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function toResponse(outcome: CancelOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'canceled': return CANCELED;
    case 'unknown': return errorResponse('otp_not_found');
    case 'used': return errorResponse('code_used');
    case 'expired': return errorResponse('code_expired');
    default: return outcome.kind satisfies never;
  }
}
