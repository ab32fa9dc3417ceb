/** What is drawn from the operating system's random source: codes and ids. */
import { randomBytes, randomInt } from 'node:crypto';
import type { Hex } from '../../db/query.ts';
import { VERIFY_ID_BYTES } from '../../db/tables/otps-write.ts';
import { BATCH_ID_BYTES, OWNER_BYTES } from '../../db/tables/outbox.ts';

/**
 * Draws a code: every one of the 10^digits is equally likely, leading zeros are kept (contract,
 * "The code"; NIST SP 800-63B-4, 3.1.3.2).
 *
 * @param digits 6 to 10
 */
export function randomCode(digits: number): string {
  return String(randomInt(10 ** digits)).padStart(digits, '0');
}

/** A random integer from 0 to below a limit. */
export function randomBelow(limit: number): number {
  return randomInt(limit);
}

/** Draws the name of a verification. */
export function randomVerifyId(): Hex {
  return takeRandomBytes(VERIFY_ID_BYTES);
}

/** Draws the name of a process in the outbox. */
export function randomOwner(): Hex {
  return takeRandomBytes(OWNER_BYTES);
}

/** The bundles of one process follow each other, so that their rows are appended. */
const BUNDLE_RUN_BYTES = 5;
const BUNDLES_PER_RUN = 2 ** (8 * (BATCH_ID_BYTES - BUNDLE_RUN_BYTES));
let bundleRun: Hex = '';
let batchNumber = BUNDLES_PER_RUN;

/** Draws the name of a bundle of messages: random bits, and a number that counts up. */
export function randomBatchId(): Hex {
  if (batchNumber === BUNDLES_PER_RUN) {
    bundleRun = takeRandomBytes(BUNDLE_RUN_BYTES);
    batchNumber = 0;
  }
  const number = batchNumber.toString(16).padStart(2 * (BATCH_ID_BYTES - BUNDLE_RUN_BYTES), '0');
  batchNumber += 1;
  return bundleRun + number;
}

/** Draws so many random bytes. */
export function randomHex(bytes: number): Hex {
  return takeRandomBytes(bytes);
}

/** Drawn ahead, because a call to the random source costs as much for 4 KiB as for 16 bytes. */
const AHEAD_BYTES = 4096;
let ahead: Hex = '';
let taken = 0;

function takeRandomBytes(count: number): Hex {
  if (ahead.length - taken < 2 * count) {
    ahead = randomBytes(AHEAD_BYTES).toString('hex');
    taken = 0;
  }
  taken += 2 * count;
  return ahead.slice(taken - 2 * count, taken);
}
