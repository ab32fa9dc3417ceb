/**
 * Every random value of the service: codes, ids, keys and delays. All come from the random source
 * of the operating system.
 */
import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import type { Hex } from '../../db/query.ts';
import { VERIFY_ID_BYTES } from '../../db/tables/otps-write.ts';
import { BATCH_ID_BYTES, OWNER_BYTES } from '../../db/tables/outbox.ts';

/**
 * A code: each of the 10^digits values is equally likely, and leading zeros are kept (NIST SP
 * 800-63B-4, 3.1.3.2).
 *
 * @param digits 6 to 10
 */
export function randomCode(digits: number): string {
  return String(randomInt(10 ** digits)).padStart(digits, '0');
}

export function randomVerifyId(): Hex {
  return randomHex(VERIFY_ID_BYTES);
}

/** Identifies a process in the outbox. */
export function randomOwner(): Hex {
  return randomHex(OWNER_BYTES);
}

/** The random part of a batch id; the rest counts up, so that rows are appended to the table. */
const PREFIX_BYTES = 5;
const COUNTER_DIGITS = 2 * (BATCH_ID_BYTES - PREFIX_BYTES);
const BATCHES_PER_PREFIX = 16 ** COUNTER_DIGITS;
let prefix: Hex = '';
let counter = BATCHES_PER_PREFIX;

/** The id of an outbox batch: random bits, then a counter. */
export function randomBatchId(): Hex {
  if (counter === BATCHES_PER_PREFIX) {
    prefix = randomHex(PREFIX_BYTES);
    counter = 0;
  }
  const number = counter.toString(16).padStart(COUNTER_DIGITS, '0');
  counter += 1;
  return prefix + number;
}

/** Key material, which is not taken from the buffer of `randomHex`. */
export function randomKey(bytes: number): Buffer {
  return randomBytes(bytes);
}

/** The id of a request whose client sent none: a version 4 UUID (RFC 9562, 5.4). */
export function randomRequestId(): string {
  return randomUUID();
}

/** A whole number from 0 to `limit - 1`, for random delays. */
export function randomBelow(limit: number): number {
  return randomInt(limit);
}

/** Read in advance: a call to the random source costs the same for 4 KiB as for 16 bytes. */
const BUFFER_BYTES = 4096;
let buffer: Hex = '';
let used = 0;

export function randomHex(bytes: number): Hex {
  const digits = 2 * bytes;
  if (buffer.length - used < digits) {
    buffer = randomBytes(BUFFER_BYTES).toString('hex');
    used = 0;
  }
  used += digits;
  return buffer.slice(used - digits, used);
}
