/** The table device_revocations: the devices that are no longer trusted. It is nearly empty. */
import { parseInstant } from '../instant.ts';
import type { Instant } from '../instant.ts';
import { repeat, toHex, write } from '../query.ts';
import type { Hex, Query, Write } from '../query.ts';

/** Columns: schema/0013-device-revocations.sql. */
export type DeviceRevocation = Readonly<{
  userId: string;
  /** '' for all devices of the user whose tokens were issued before the second of `revokedAt`. */
  device: Hex;
  revokedAt: Instant;
}>;

/**
 * Reads the revocations of users without locking.
 *
 * @param userIds unique, at least one
 */
export function readRevocations(userIds: readonly string[]): Query<DeviceRevocation[]> {
  return {
    name: 'device_revocations.read',
    // FORCE INDEX: the server may scan a table that it estimates to be small.
    sql: `SELECT user_id, device, revoked_at FROM device_revocations FORCE INDEX (PRIMARY)
      WHERE user_id IN (${repeat(userIds.length, '?')})`,
    values: userIds,
    read: (rows) => rows.map((row) => ({
      userId: row.user_id as string,
      device: toHex(row.device),
      revokedAt: parseInstant(row.revoked_at as string),
    })),
  };
}

/**
 * Revokes devices now, once more if they were revoked before. The OTPs of the user are locked.
 *
 * @param devices unique, at least one; '' for those whose tokens were issued before this second
 */
export function storeRevocations(userId: string, devices: readonly Hex[]): Write {
  return write('device_revocations.add', `INSERT INTO device_revocations
    (user_id, device, revoked_at) VALUES ${repeat(devices.length, '(?, X?, NOW(6))')}
    ON DUPLICATE KEY UPDATE revoked_at = NOW(6)`, devices.flatMap((device) => [userId, device]));
}

/**
 * Commit probe of storeRevocations: a repeated revocation makes no difference. A time that was
 * stored before may be ahead of the clock.
 *
 * @param before the revocations of the user before
 */
export function isDeviceRevoked(
  userId: string,
  device: Hex,
  now: Instant,
  before: readonly DeviceRevocation[],
): Query<boolean> {
  const { read, ...query } = readRevocations([userId]);
  const earlier = before.find((one) => one.device === device)?.revokedAt;
  return {
    ...query,
    sql: `${query.sql} FOR UPDATE`,
    read: (rows) => read(rows).some((one) =>
      one.device === device && one.revokedAt >= now && one.revokedAt !== earlier),
  };
}

/** Deletes the revocations that are older than every token. */
export function deleteExpiredRevocations(seconds: number): Write {
  return write('device_revocations.expire', `DELETE FROM device_revocations
    WHERE revoked_at <= NOW(6) - INTERVAL ? SECOND`, [seconds]);
}
