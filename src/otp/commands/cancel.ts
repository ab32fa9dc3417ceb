/** `otpd cancel OTP_ID`: what DELETE /otp/{otp_id} does. */
import type { SessionPool } from '../../db/pool.ts';
import { cancelCodes } from '../cancel-codes.ts';
import type { CancelOutcome } from '../outcome.ts';
import type { Secrets } from '../secrets.ts';
import { UsageError } from './report.ts';
import type { Report } from './report.ts';

const LINES: Readonly<Record<CancelOutcome['kind'], string>> = {
  canceled: 'canceled; the code works no more',
  unknown: 'no code is known by this id',
  used: 'it has been redeemed',
  expired: 'it works no more already',
};

/**
 * Refuses what is not the name of a code.
 *
 * @throws UsageError when it is none
 */
export function checkOtpId(text: string): void {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new UsageError('OTP_ID must be 32 hexadecimal digits');
}

/**
 * Cancels a code.
 *
 * @throws Unavailable when the database cannot answer
 */
export async function cancel(
  parts: Readonly<{ pool: SessionPool; secrets: Secrets }>,
  otpId: string,
): Promise<Report> {
  const [{ kind } = { kind: 'unknown' as const }] = await cancelCodes(parts, [otpId]);
  const data = { outcome: kind, otp_id: otpId };
  return { isDone: kind === 'canceled', lines: [LINES[kind]], data };
}
