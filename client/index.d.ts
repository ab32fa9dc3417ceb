/** The types of index.js; a test compiles the code against them. */

export type ClientOptions = {
  /** The URL of otpd, such as `http://127.0.0.1:3000`; it may have a path. */
  url: string | URL;
  /** A key that `otpd key new` has printed. Never put one into a page. */
  apiKey?: string | undefined;
  /** How long a call may take with all its repeats; 10,000 by default. */
  deadlineMs?: number | undefined;
  /** In place of the global fetch. */
  fetch?: typeof fetch | undefined;
};

export type CallOptions = {
  /** Its abort rejects the promise with the reason of the signal. */
  signal?: AbortSignal | undefined;
  /** In place of that of the client. */
  deadlineMs?: number | undefined;
};

type UserCall = CallOptions & {
  userId: string;
  purpose: string;
  /**
   * The address of the end user's device, for the limits by client IP. It is sent as X-Client-IP
   * with an API key. Without one it is sent as X-Forwarded-For, which counts if TRUSTED_PROXIES
   * names the caller.
   */
  clientIp?: string | undefined;
  /** The device tokens that the end user's device keeps; other texts are not sent. */
  devices?: readonly string[] | undefined;
  /** A new random key by default. A secret: see docs/api.md, "Key". */
  idempotencyKey?: string | undefined;
};

export type RequestCall = UserCall & {
  /** Where the message goes, if not to the user id; the API key needs the scope `to`. */
  to?: string | undefined;
  /** The channel to try first. */
  channel?: string | undefined;
  /** A language tag, such as `pt-BR`. */
  locale?: string | undefined;
};

export type VerifyCall = UserCall & {
  code: string;
  /** Binds the attempt to one request. */
  otpId?: string | undefined;
};

type Outcome<Kind extends string, Members = unknown> = {
  readonly kind: Kind;
  /** The X-Request-Id of the response, by which the log of otpd names it. */
  readonly requestId: string | null;
} & Readonly<Members>;

type Waiting = { retryAfterSeconds: number };

/** No response within the deadline. A later call with the same key gets the true result. */
export type Unavailable = Outcome<'unavailable', {
  /** `unavailable`, `request_in_progress`, a status, or why the connection failed. */
  reason: string;
  retryAfterSeconds: number | null;
}>;

/** The call or the installation is wrong: a person must look at it. */
export type Failed = Outcome<'failed', {
  status: number;
  error: FailedError;
  /** What is wrong with the call, if otpd says so. */
  field: string | null;
  message: string | null;
}>;

export type FailedError = 'invalid_request' | 'unauthorized' | 'forbidden' | 'origin_not_allowed'
  | 'not_found' | 'method_not_allowed' | 'payload_too_large' | 'unsupported_media_type'
  | 'expectation_failed' | 'misdirected_request' | 'idempotency_key_reused' | 'headers_too_large'
  | 'internal';

/** A response that this client does not know: another server, or a later version of otpd. */
export type Unknown = Outcome<'unknown', { status: number; error: string | null }>;

type Common = Unavailable | Failed | Unknown;

/** The refusals that request and verify share. */
export type Refusal =
  | Outcome<'rate_limit_exceeded', Waiting>
  | Outcome<'too_many_attempts', Waiting>
  | Outcome<'account_locked'>;

export type RequestOutcome = Common | Refusal
  | Outcome<'sent', {
    otpId: string;
    /** Seconds for which the code can be redeemed. */
    ttl: number;
    remainingRequests: number;
    /** Seconds until the limits let the next code through; 0 now, null if unknown. */
    nextCodeInSeconds: number | null;
    isReplay: boolean;
  }>;

export type VerifyOutcome = Common | Refusal
  | Outcome<'verified', {
    /** The device token for the end user's device to keep; null where otpd gives none. */
    device: string | null;
    isReplay: boolean;
  }>
  | Outcome<'invalid_code', { attemptsRemaining: number }>
  | Outcome<'otp_not_found'>
  | Outcome<'code_superseded'>
  | Outcome<'code_used'>
  | Outcome<'code_expired'>;

export type OtpStatus = 'pending' | 'sent' | 'failed' | 'verified' | 'expired' | 'superseded'
  | 'locked' | 'canceled';

export type StatusOutcome = Common
  | Outcome<'known', {
    otpId: string;
    purpose: string;
    status: OtpStatus;
    channel: string;
    /** UTC, such as `2026-11-24T12:13:45.499117Z`. */
    createdAt: string;
    expiresAt: string;
  }>
  | Outcome<'otp_not_found'>;

export type CancelOutcome = Common
  | Outcome<'canceled'>
  | Outcome<'otp_not_found'>
  | Outcome<'code_used'>
  | Outcome<'code_expired'>;

export type OtpdClient = {
  /** Creates an OTP and sends its code. */
  request(call: RequestCall): Promise<RequestOutcome>;
  /** Verifies a code. */
  verify(call: VerifyCall): Promise<VerifyOutcome>;
  /** Reads the state of an OTP. */
  status(otpId: string, options?: CallOptions): Promise<StatusOutcome>;
  /** Cancels an OTP. */
  cancel(otpId: string, options?: CallOptions): Promise<CancelOutcome>;
};

export function createClient(options: ClientOptions): OtpdClient;
