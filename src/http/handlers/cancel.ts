/** DELETE /otp/{otp_id} (docs/api.md, "DELETE /otp/{otp_id}"). */
import type { MethodHandler } from '../handler.ts';
import { otpIdOf } from '../input/request-head.ts';
import type { CancelOutcome } from '../../otp/outcomes.ts';
import type { IsConnected, OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

const CANCELED: HttpResponse = Object.freeze(
  { code: 'canceled', body: '', headers: [], close: false },
);

export function createCancelHandler(service: OtpService): MethodHandler {
  return {
    takesJson: false,
    scopes: ['request', 'admin'],
    handle: ({ path, isConnected }) => cancelOtp(service, otpIdOf(path), isConnected),
  };
}

/**
 * Cancels an OTP. Never rejects: 204 when canceled now or earlier, 404 unknown, 410 used or
 * expired, 503 when the database does not answer, else 500.
 */
async function cancelOtp(
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
