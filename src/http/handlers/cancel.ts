/** DELETE /otp/{otp_id}: from an id to a plain answer. */
import type { CancelOutcome } from '../../otp/outcomes.ts';
import type { IsWanted, OtpService } from '../../otp/service.ts';
import { failed, failure } from '../response.ts';
import type { Answer } from '../response.ts';

const CANCELED: Answer = Object.freeze({ code: 'canceled', body: '', headers: [], close: false });

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
  isWanted: IsWanted,
): Promise<Answer> {
  try {
    return { ...answerOf(await service.cancel(otpId, isWanted)), about: { otpId } };
  } catch (error) {
    return { ...failed(error), about: { otpId } };
  }
}

function answerOf(outcome: CancelOutcome): Answer {
  switch (outcome.kind) {
    case 'canceled': return CANCELED;
    case 'unknown': return failure('otp_not_found');
    case 'used': return failure('code_used');
    case 'expired': return failure('code_expired');
    default: throw new TypeError('no such outcome', { cause: outcome });
  }
}
