/** DELETE /otp/{otp_id} (docs/api.md, "DELETE /otp/{otp_id}"). */
import type { HandlerInput, MethodHandler } from '../handler.ts';
import { NO_SCOPE } from '../input/api-keys.ts';
import { otpIdOf } from '../input/request-head.ts';
import type { CancelOutcome } from '../../otp/outcomes.ts';
import type { OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse } from '../response.ts';
import type { HttpResponse } from '../response.ts';

const CANCELED: HttpResponse = Object.freeze(
  { code: 'canceled', body: '', headers: [], close: false },
);

export function createCancelHandler(service: OtpService): MethodHandler {
  return {
    takesJson: false,
    scopes: ['request', 'admin'],
    parseKey: () => null,
    handle: (input) => cancelOtp(service, input),
  };
}

/**
 * Cancels an OTP. Never rejects: 204 when canceled now or earlier, 403 when another API client
 * requested it, 404 unknown, 410 used or expired, 503 when the database does not answer, else 500.
 */
async function cancelOtp(
  service: OtpService,
  { path, apiClient, scopes, isConnected }: HandlerInput,
): Promise<HttpResponse> {
  const otpId = otpIdOf(path);
  const canceler = scopes.includes('admin') ? null : apiClient;
  try {
    const outcome = await service.cancel({ otpId, apiClient: canceler }, isConnected);
    return { ...toResponse(outcome), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function toResponse(outcome: CancelOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'canceled': return CANCELED;
    case 'unknown': return errorResponse('otp_not_found');
    case 'forbidden': return NO_SCOPE;
    case 'used': return errorResponse('code_used');
    case 'expired': return errorResponse('code_expired');
    default: return outcome.kind satisfies never;
  }
}
