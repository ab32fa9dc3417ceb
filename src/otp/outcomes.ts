/**
 * Inputs and outcomes of the operations. Each set of outcomes is closed: the HTTP layer maps every
 * outcome to one status.
 */
import { MICROSECONDS_PER_DAY, MICROSECONDS_PER_MILLISECOND } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { Hex } from '../db/query.ts';
import type { ChannelName, Recipient } from './channels/channel.ts';
import type { LimitName, NamedQuota } from './policy/policy.ts';

/** What the address of a client counts as (docs/api.md, "Client address"). */
export type ClientAddress = Readonly<{
  /** An IPv4 address, or the /64 of an IPv6 address; null when no client is counted. */
  clientIp: string | null;
  /** The /48 of an IPv6 address; null for every other client. */
  clientNet48: string | null;
}>;

/** A request for a code. All strings are validated (docs/api.md, "Identity"). */
export type OtpRequest = ClientAddress & Recipient & Readonly<{
  purpose: string;
  /** The channel to try first; without it, or with null, the first that reaches the recipient. */
  channel?: ChannelName | null | undefined;
  /** A well-formed language tag, which wins over Accept-Language. */
  locale?: string | null | undefined;
  /** The decoded Idempotency-Key: 1 to 255 printable ASCII characters. */
  key: string;
  /** The name of the API client, [A-Za-z0-9_-]: each has its own keys. Null without API keys. */
  apiClient: string | null;
  /** The Accept-Language field, not validated; '' when there is none. */
  acceptLanguage: string;
  /** The Otp-Device field, not validated; without it, or with '', the client is untrusted. */
  deviceTokens?: string;
}>;

/** A verification of a code; `apiClient` is as in OtpRequest. */
export type OtpVerification = ClientAddress & Readonly<{
  userId: string;
  purpose: string;
  code: string;
  /** The OTP that the code is to be of; without it, or with null, the newest. */
  otpId?: Hex | null;
  /** The decoded Idempotency-Key, or null. */
  key: string | null;
  apiClient: string | null;
  /** Not validated; without it, or with '', the client is untrusted. */
  deviceTokens?: string;
}>;

/** A limit as a client sees it (draft-ietf-httpapi-ratelimit-headers). */
export type LimitView = NamedQuota & Readonly<{
  remaining: number;
  /** Whole seconds until the oldest live point is free, rounded up; the window without one. */
  resetSeconds: number;
}>;

/** The limits in force for a request, as the operation has left them; none that is in shadow. */
export type Limits = readonly LimitView[];

/** Whether the user is a test identity, for the log and the metrics; absent for other users. */
type TestMark = Readonly<{ isTest?: boolean }>;

/** The outcomes of a valid request (docs/api.md, "POST /otp/request"). */
export type RequestOutcome = TestMark & (
  | Readonly<{
      kind: 'issued';
      otpId: string;
      ttlSeconds: number;
      remainingRequests: number;
      /** True for the stored response of an earlier request with the same key. */
      replayed: boolean;
      limits: Limits;
      /** The limits in shadow that the request exceeds. */
      shadowed: readonly LimitName[];
    }>
  | Readonly<{ kind: 'key_reused'; limits: Limits }>
  /** The account is locked until an operator unlocks it. */
  | Readonly<{ kind: 'account_locked'; limits: Limits }>
  | Readonly<{ kind: 'locked'; retryAfterSeconds: number; limits: Limits }>
  | Readonly<{
      kind: 'limited';
      retryAfterSeconds: number;
      limits: Limits;
      limitedBy: readonly LimitName[];
      shadowed: readonly LimitName[];
    }>
);

/** The outcomes of a valid verification; `begins` marks the wrong code that begins a lock. */
export type VerifyOutcome = TestMark & (
  /** With the token that makes the client a trusted device, where the policy trusts devices. */
  | Readonly<{ kind: 'verified'; replayed: boolean; deviceToken?: string }>
  /** The code has another length than the OTP or, without an OTP, the policy requires. */
  | Readonly<{ kind: 'malformed'; digits: number }>
  | Readonly<{ kind: 'key_reused' }>
  /** Too many wrong codes from the client IP or its /48; says nothing about the pair. */
  | Readonly<{ kind: 'limited'; retryAfterSeconds: number; limitedBy: readonly LimitName[] }>
  | Readonly<{ kind: 'account_locked'; begins: boolean }>
  | Readonly<{ kind: 'locked'; retryAfterSeconds: number; begins: boolean }>
  /** Of the pair, or under the otp_id that was given. */
  | Readonly<{ kind: 'not_found' }>
  /** The otp_id, or the code, is that of an earlier OTP of the pair. */
  | Readonly<{ kind: 'superseded' }>
  | Readonly<{ kind: 'used' }>
  | Readonly<{ kind: 'expired' }>
  | Readonly<{ kind: 'wrong'; attemptsRemaining: number }>
);

/** The status of an OTP (docs/api.md, "GET /otp/{otp_id}"). */
export type OtpStatus =
  | 'pending'
  | 'sent'
  | 'failed'
  | 'verified'
  | 'expired'
  | 'superseded'
  | 'locked'
  | 'canceled';

export type StatusOutcome =
  | Readonly<{ kind: 'unknown' }>
  | Readonly<{
      kind: 'known';
      otpId: Hex;
      purpose: string;
      status: OtpStatus;
      /** The channel by which the message is sent, or was sent last. */
      channel: string;
      createdAt: Instant;
      expiresAt: Instant;
    }>;

/** A cancellation on behalf of an API client; null for one that may cancel every OTP. */
export type OtpCancellation = Readonly<{
  otpId: Hex;
  apiClient: string | null;
  /** The purposes that may be canceled; without them, or with null, every purpose. */
  purposes?: ReadonlySet<string> | null;
}>;

/**
 * The outcomes of a cancellation; a repeated cancellation is `canceled`, too. `forbidden`: another
 * API client requested the OTP, or its purpose may not be canceled.
 */
export type CancelOutcome
  = Readonly<{ kind: 'canceled' | 'unknown' | 'forbidden' | 'used' | 'expired' }>;

/**
 * The outcomes of a report of a provider on a message. `unknown`: otpd has not given this URL to a
 * provider, or no longer has the secret under which it did. `malformed`: the body is no report.
 */
export type ReportOutcome = Readonly<{ kind: 'noted' | 'unknown' | 'malformed' }>;

/** Writes a time of an outcome in UTC, to the microsecond: `2026-11-24T11:02:03.000001Z`. */
export function toRfc3339(instant: Instant): string {
  const milliseconds = Math.floor(instant / MICROSECONDS_PER_MILLISECOND);
  const microseconds = String(instant - milliseconds * MICROSECONDS_PER_MILLISECOND);
  return new Date(milliseconds).toISOString().replace('Z', `${microseconds.padStart(3, '0')}Z`);
}

/** Parses the last day of something, such as 2026-12-31, to its end in UTC; null for no day. */
export function parseLastDay(day: string): Instant | null {
  const startMs = /^\d{4}-\d\d-\d\d$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : NaN;
  const isDay = !Number.isNaN(startMs) && new Date(startMs).toISOString().startsWith(day);
  return isDay ? startMs * MICROSECONDS_PER_MILLISECOND + MICROSECONDS_PER_DAY : null;
}

/** Both in code points (docs/api.md, "Identity"). */
export const USER_ID_MAX_CHARACTERS = 255;
export const PURPOSE_MAX_CHARACTERS = 100;

/** In code points: a label or a brand is a part of a subject and of a text message. */
export const LABEL_MAX_CHARACTERS = 60;

/** The rule of isIdentity, to follow a name in an error message. */
export function identityRule(maxCharacters: number): string {
  return `must be a string of 1 to ${maxCharacters} characters without control characters`;
}

const OTP_ID = /^[0-9a-f]{32}$/;

/** An otp_id has 32 lower-case hexadecimal digits and no other spelling. */
export function isOtpId(text: string): boolean {
  return OTP_ID.test(text);
}

/** Whether a value is a well-formed string of 1 to maxCharacters code points without controls. */
export function isIdentity(value: unknown, maxCharacters: number): value is string {
  if (typeof value !== 'string' || value.length === 0) return false;
  for (let at = 0; at < value.length; at += 1) {
    if (isControl(value.charCodeAt(at))) return false;
  }
  // A lone surrogate is stored as the replacement character, so two users could collide.
  if (!value.isWellFormed()) return false;
  return value.length <= maxCharacters || [...value].length <= maxCharacters;
}

/** Unicode category Cc: C0, DEL and C1. */
function isControl(unit: number): boolean {
  return unit < 0x20 || (unit >= 0x7f && unit <= 0x9f);
}
