/**
 * What the two operations take and what they can end in. Each outcome set is closed: the HTTP
 * layer has one status for each, and anything else is a fault.
 */
import { MICROSECONDS_PER_MILLISECOND } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { Hex } from '../db/query.ts';
import type { LimitName } from './policy/policy.ts';

/** A request to issue a code. All strings are validated before they come here. */
export type OtpRequest = Readonly<{
  userId: string;
  purpose: string;
  /** The counted client address: IPv4 text, or the /64 of an IPv6 address. Null: none counts. */
  clientIp: string | null;
  /** The Idempotency-Key, decoded: 1 to 255 printable ASCII characters. */
  key: string;
  /** Who sent the key, [A-Za-z0-9_-]: the same key of another caller is another key. Or null. */
  apiClient: string | null;
  /** The Accept-Language field, of any content; '' when there is none. */
  acceptLanguage: string;
}>;

/** A request to redeem a code. */
export type OtpVerification = Readonly<{
  userId: string;
  purpose: string;
  /** 6 to 10 digits. */
  code: string;
  /** As in IssueInput. */
  clientIp: string | null;
  /** The optional Idempotency-Key, or null. */
  key: string | null;
  /** Who sent it, as in IssueInput. */
  apiClient: string | null;
}>;

/** One limit as a client sees it (draft-ietf-httpapi-ratelimit-headers). */
export type LimitView = Readonly<{
  quota: number;
  remaining: number;
  /** Whole seconds, rounded up, until the oldest counted point is free again. */
  resetSeconds: number;
}>;

/** The limits after the operation; that of the address is null when none is counted. */
export type Limits = Readonly<{ user: LimitView; address: LimitView | null }>;

/** How POST /otp/request can end (contract, cases 2, 3, 5, 6 and 7). */
export type RequestOutcome =
  | Readonly<{
      kind: 'issued';
      otpId: string;
      ttlSeconds: number;
      remainingRequests: number;
      /** True when this is the stored answer of an earlier request with the same key. */
      replayed: boolean;
      limits: Limits;
      /** The limits that would have refused it, were they not in shadow. */
      shadowed: readonly LimitName[];
    }>
  | Readonly<{ kind: 'key_reused'; limits: Limits }>
  | Readonly<{ kind: 'locked'; retryAfterSeconds: number; limits: Limits }>
  | Readonly<{
      kind: 'limited';
      retryAfterSeconds: number;
      limits: Limits;
      limitedBy: readonly LimitName[];
      shadowed: readonly LimitName[];
    }>;

/** How POST /otp/verify can end. A third wrong code `begins` the lock that later tries meet. */
export type VerifyOutcome =
  | Readonly<{ kind: 'verified'; replayed: boolean }>
  /** The code has not the length that it would have to have. */
  | Readonly<{ kind: 'malformed'; digits: number }>
  | Readonly<{ kind: 'key_reused' }>
  /** Too many wrong codes from the address; nothing is said of the pair. */
  | Readonly<{ kind: 'limited'; retryAfterSeconds: number }>
  | Readonly<{ kind: 'locked'; retryAfterSeconds: number; begins: boolean }>
  | Readonly<{ kind: 'not_found' }>
  | Readonly<{ kind: 'used' }>
  | Readonly<{ kind: 'expired' }>
  | Readonly<{ kind: 'wrong'; attemptsRemaining: number }>;

/** What became of a code (GET /otp/{otp_id}). */
export type OtpStatus =
  | 'pending'
  | 'sent'
  | 'failed'
  | 'verified'
  | 'expired'
  | 'superseded'
  | 'locked'
  | 'canceled';

/** How GET /otp/{otp_id} can end. */
export type StatusOutcome =
  | Readonly<{ kind: 'unknown' }>
  | Readonly<{
      kind: 'known';
      otpId: Hex;
      purpose: string;
      status: OtpStatus;
      /** By which the message goes, or went last. */
      channel: string;
      createdAt: Instant;
      expiresAt: Instant;
    }>;

/** How DELETE /otp/{otp_id} can end: a code that is canceled already is canceled. */
export type CancelOutcome = Readonly<{ kind: 'canceled' | 'unknown' | 'used' | 'expired' }>;

/** Writes a time of an outcome in UTC, to the microsecond: `2026-11-24T11:02:03.000001Z`. */
export function toRfc3339(instant: Instant): string {
  const milliseconds = Math.floor(instant / MICROSECONDS_PER_MILLISECOND);
  const microseconds = String(instant - milliseconds * MICROSECONDS_PER_MILLISECOND);
  return new Date(milliseconds).toISOString().replace('Z', `${microseconds.padStart(3, '0')}Z`);
}
