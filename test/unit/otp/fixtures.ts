/** Rows for the tests of the rules: an instant, and builders with default values. */
import { addSeconds, parseInstant } from '../../../src/db/instant.ts';
import type { StoredRequest } from '../../../src/db/tables/idempotency-keys.ts';
import type { Slot } from '../../../src/db/tables/ip-limits.ts';
import type { Otp } from '../../../src/db/tables/otps.ts';

export const NOW = parseInstant('2026-01-05 08:00:00.000000');

/** NOW plus seconds, which may be negative or a fraction. */
export function at(seconds: number): number {
  return NOW + Math.round(seconds * 1_000_000);
}

/** Slots with one point each, taken at the given seconds before NOW. */
export function usedAgo(...seconds: number[]): Slot[] {
  return seconds.map((ago, slot) => ({ slot, usedAt: at(-ago), points: 1, refunded: 0 }));
}

/** Used OTPs of other purposes, issued at the given seconds before NOW. */
export function issuedAgo(...seconds: number[]): Otp[] {
  return seconds.map((ago, index) => otpWith({
    number: 1 + index, purpose: `p${index}`, digest: null,
    createdAt: at(-ago), expiresAt: at(300 - ago), redeemedAt: at(-ago),
  }));
}

/** The open OTP of a pair, issued at NOW. */
export function otpWith(changes: Partial<Otp> = {}): Otp {
  return {
    userId: 'U1',
    number: 1,
    purpose: 'login',
    device: '',
    otpId: '07'.repeat(16),
    keyId: 'k1',
    digest: '01'.repeat(32),
    createdAt: NOW,
    expiresAt: addSeconds(NOW, 300),
    redeemedAt: null,
    wrongAttempts: 0,
    lastWrongAt: null,
    lockedUntil: null,
    consecutiveWrong: 0,
    verifyIds: '',
    batchId: 'cc'.repeat(8),
    batchNumber: 0,
    channel: 'console',
    closeReason: null,
    isRefunded: false,
    codeDigits: 6,
    attemptsMax: 3,
    lockSeconds: 600,
    keyDigest: null,
    keyExpiresAt: null,
    remainingRequests: 2,
    apiClient: null,
    ...changes,
  };
}

/** A stored 201 for the same pair, whose key expires in an hour. */
export function storedWith(changes: Partial<StoredRequest> = {}): StoredRequest {
  return {
    keyDigest: '02'.repeat(16),
    keyExpiresAt: at(3600),
    userId: 'U1',
    purpose: 'login',
    otpId: '09'.repeat(16),
    createdAt: at(-10),
    expiresAt: at(290),
    remainingRequests: 1,
    ...changes,
  };
}
