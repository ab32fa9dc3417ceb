/** What is drawn from the operating system's random source: codes and ids. */
import { randomBytes, randomInt } from 'node:crypto';
import type { Hex } from '../db/hex.ts';
import { BUNDLE_ID_BYTES, OWNER_BYTES } from '../db/outbox.ts';
import { VERIFY_ID_BYTES } from '../db/verify-ids.ts';

/** 128 bits: an otp_id cannot be guessed, and no two are ever the same. */
const ID_BYTES = 16;

/**
 * Draws a code: every one of the 10^digits is equally likely, leading zeros are kept (contract,
 * "The code"; NIST SP 800-63B-4, 3.1.3.2).
 *
 * @param digits 6 to 10
 */
export function drawCode(digits: number): string {
  return String(randomInt(10 ** digits)).padStart(digits, '0');
}

/** Draws an id of 16 random bytes. */
export function drawId(): Hex {
  return drawBytes(ID_BYTES);
}

/** Draws the name of a verification. */
export function drawVerifyId(): Hex {
  return drawBytes(VERIFY_ID_BYTES);
}

/** Draws the name of a process in the outbox. */
export function drawOwner(): Hex {
  return drawBytes(OWNER_BYTES);
}

/** Draws the name of a bundle of messages. */
export function drawBundleId(): Hex {
  return drawBytes(BUNDLE_ID_BYTES);
}

/** Draws a nonce. */
export function drawNonce(bytes: number): Hex {
  return drawBytes(bytes);
}

/** Drawn ahead, because a call to the random source costs as much for 4 KiB as for 16 bytes. */
const AHEAD_BYTES = 4096;
let ahead: Hex = '';
let taken = 0;

function drawBytes(count: number): Hex {
  if (ahead.length - taken < 2 * count) {
    ahead = randomBytes(AHEAD_BYTES).toString('hex');
    taken = 0;
  }
  taken += 2 * count;
  return ahead.slice(taken - 2 * count, taken);
}
