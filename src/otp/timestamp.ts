/** Times as clients and operators read them. */
import type { Instant } from '../db/instant.ts';

/**
 * A time in UTC, to the microsecond (RFC 3339).
 *
 * @returns such as `2026-11-24T11:02:03.000001Z`
 */
export function timestampOf(instant: Instant): string {
  const milliseconds = Math.floor(instant / 1000);
  const microseconds = String(instant - milliseconds * 1000).padStart(3, '0');
  return new Date(milliseconds).toISOString().replace('Z', `${microseconds}Z`);
}
