/** GET /otp/{otp_id}: from an id to a plain answer. */
import { timestampOf } from '../../db/instant.ts';
import type { StatusOutcome } from '../../otp/outcomes.ts';
import type { IsWanted, OtpService } from '../../otp/service.ts';
import { failed, failure } from '../response.ts';
import type { Answer } from '../response.ts';

/**
 * Tells what became of a code. Never rejects.
 *
 * @param otpId 32 lower-case hexadecimal digits
 * @returns 200 known, 404 unknown, 503 when the database cannot answer, 500 for anything else
 */
export async function showOtp(
  service: OtpService,
  otpId: string,
  isWanted: IsWanted,
): Promise<Answer> {
  try {
    return { ...answerOf(await service.status(otpId, isWanted)), about: { otpId } };
  } catch (error) {
    return { ...failed(error), about: { otpId } };
  }
}

function answerOf(outcome: StatusOutcome): Answer {
  switch (outcome.kind) {
    case 'known': return known(outcome);
    case 'unknown': return failure('otp_not_found');
    default: throw new TypeError('no such outcome', { cause: outcome });
  }
}

function known(outcome: Extract<StatusOutcome, { kind: 'known' }>): Answer {
  const body = JSON.stringify({
    otp_id: outcome.otpId,
    purpose: outcome.purpose,
    status: outcome.status,
    channel: outcome.channel,
    created_at: timestampOf(outcome.createdAt),
    expires_at: timestampOf(outcome.expiresAt),
  });
  return { code: 'known', body, headers: [], close: false };
}
