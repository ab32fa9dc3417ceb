/**
 * Trusted devices (docs/api.md, "Trusted devices"; OWASP: device cookies). A client that has
 * verified a code gets a token, and proves by sending it that it is not a stranger. The token lets
 * nobody in. It is not stored; an operator revokes it.
 */
import { Buffer } from 'node:buffer';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { deviceKey } from './secrets.ts';
import type { Secret, Secrets } from './secrets.ts';
import { addSeconds, MICROSECONDS_PER_SECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { DeviceRevocation } from '../../db/tables/device-revocations.ts';
import type { Otp } from '../../db/tables/otps.ts';

const DEVICE_BYTES = 8;
const CONTENT_BYTES = DEVICE_BYTES + 4;
const MAC_BYTES = 16;

/** Bounds the digests that one request costs. */
const TOKENS_MAX = 8;

export const SECONDS_PER_DAY = 86_400;

/** A genuine token: it may have expired, or be revoked. The time of issue has whole seconds. */
export type DeviceClaim = Readonly<{ device: Hex; issuedAt: Instant }>;

export const NO_CLAIMS: readonly DeviceClaim[] = Object.freeze([]);

/**
 * Reads the first 8 tokens of the Otp-Device field, separated by commas. What is not a token that
 * was made for the user under a known secret is ignored.
 *
 * @param field unchecked; '' when the request has no such field
 */
export function readDeviceTokens(
  { byId }: Secrets,
  userId: string,
  field: string,
): readonly DeviceClaim[] {
  if (field === '') return NO_CLAIMS;
  return field.split(',', TOKENS_MAX).flatMap((token) => {
    const [keyId, text, ...rest] = token.trim().split('.');
    const secret = byId.get(keyId!);
    if (secret === undefined || text === undefined || rest.length > 0) return [];
    return readToken(secret, userId, text);
  });
}

function readToken(secret: Secret, userId: string, text: string): DeviceClaim[] {
  const bytes = Buffer.from(text, 'base64url');
  // A token has one spelling.
  if (bytes.length !== CONTENT_BYTES + MAC_BYTES || bytes.toString('base64url') !== text) return [];
  const content = bytes.subarray(0, CONTENT_BYTES);
  const mac = bytes.subarray(CONTENT_BYTES);
  if (!timingSafeEqual(mac, authenticate(secret, userId, content))) return [];
  const issuedAt = addSeconds(0, content.readUInt32BE(DEVICE_BYTES));
  return [{ device: content.toString('hex', 0, DEVICE_BYTES), issuedAt }];
}

/** @param content device and time of issue */
function authenticate(secret: Secret, userId: string, content: Buffer): Buffer {
  return createHmac('sha256', deviceKey(secret)).update('mac|').update(content)
    .update(`${Buffer.byteLength(userId)}:${userId}`).digest().subarray(0, MAC_BYTES);
}

/** The device on which an OTP was redeemed: a new one unless the client was trusted. */
export function deviceOf(secret: Secret, { device, otpId }: Pick<Otp, 'device' | 'otpId'>): Hex {
  if (device !== '') return device;
  return createHmac('sha256', deviceKey(secret)).update('id|').update(otpId, 'hex').digest('hex')
    .slice(0, 2 * DEVICE_BYTES);
}

/**
 * The token of the client that has redeemed an OTP. It follows from the OTP alone, so that a
 * repeated verification returns the token of the first.
 *
 * @param secret that of the OTP
 */
export function createDeviceToken(
  secret: Secret,
  otp: Pick<Otp, 'userId' | 'device' | 'otpId'>,
  redeemedAt: Instant,
): string {
  const content = Buffer.alloc(CONTENT_BYTES);
  Buffer.from(deviceOf(secret, otp), 'hex').copy(content);
  content.writeUInt32BE(Math.floor(redeemedAt / MICROSECONDS_PER_SECOND), DEVICE_BYTES);
  const bytes = Buffer.concat([content, authenticate(secret, otp.userId, content)]);
  return `${secret.id}.${bytes.toString('base64url')}`;
}

/** The device that a token of this service names. */
export function deviceOfToken(token: string): Hex {
  return Buffer.from(token.split('.')[1]!, 'base64url').toString('hex', 0, DEVICE_BYTES);
}

/** Whether all tokens of the second of an instant were issued before another. */
export function areIssuedBefore(issuedAt: Instant, end: Instant): boolean {
  return Math.floor(issuedAt / MICROSECONDS_PER_SECOND) < Math.floor(end / MICROSECONDS_PER_SECOND);
}

/**
 * The device of the first claim that is valid now; '' for an untrusted client.
 *
 * @param revocations those of the user
 * @param deviceDays how long a device is trusted after its last success; null for never
 */
export function trustedDevice(
  claims: readonly DeviceClaim[],
  revocations: readonly DeviceRevocation[],
  now: Instant,
  deviceDays: number | null,
): Hex {
  if (claims.length === 0 || deviceDays === null) return '';
  const valid = claims.find(({ device, issuedAt }) =>
    now < addSeconds(issuedAt, deviceDays * SECONDS_PER_DAY)
    && !revocations.some((one) => one.device === device
      || (one.device === '' && areIssuedBefore(issuedAt, one.revokedAt))));
  return valid?.device ?? '';
}
