/** Where the next code of a user is kept (schema/0002-otps.sql). */
import type { Instant } from '../db/instant.ts';
import type { Otp } from '../db/otps.ts';
import { isNeeded } from './known-pair.ts';
import { isPointLive } from './window.ts';

/** The row to write, and the number of the code in it. */
export type Place = Readonly<{ slot: number; number: number }>;

/**
 * Finds the place of the next code of a user: the row of the code that it supersedes, when that
 * one's quota point is free again; any other row that is not needed; else a new row, after all
 * others, so that whoever waits for the locks of the user comes to it last.
 *
 * @param otps all codes of the user
 * @param superseded the newest code of the pair, or null
 */
export function nextPlace(otps: readonly Otp[], superseded: Otp | null, now: Instant): Place {
  let number = 1;
  let slot = 0;
  for (const otp of otps) {
    number = Math.max(number, otp.number + 1);
    slot = Math.max(slot, otp.slot + 1);
  }
  if (superseded !== null && !isPointLive(superseded.createdAt, now)) {
    return { slot: superseded.slot, number };
  }
  const unneeded = otps.find((otp) => !isNeeded(otp, otps, now));
  return { slot: unneeded?.slot ?? slot, number };
}
