/** When a provider wants to be asked again: the field Retry-After (RFC 9110, 10.2.3). */

/** No code lives longer (contract, "Numbers"), so nothing is worth a longer wait. */
export const RETRY_AFTER_MAX_SECONDS = 600;

/** The one form of a date that is sent (RFC 9110, 5.6.7); Date.parse takes many more. */
const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Reads Retry-After: whole seconds, or a date, which is measured against the `Date` of the same
 * answer, so that no clock but the provider's has a say.
 *
 * @param retryAfter the field; undefined when there is none
 * @param date the field Date of the same answer
 * @returns whole seconds from 0 to RETRY_AFTER_MAX_SECONDS; null when the field says nothing
 */
export function readRetryAfter(
  retryAfter: string | undefined,
  date: string | undefined,
): number | null {
  if (retryAfter === undefined) return null;
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter)
    : (parseDate(retryAfter) - parseDate(date ?? '')) / 1000;
  if (Number.isNaN(seconds)) return null;
  return Math.min(Math.max(seconds, 0), RETRY_AFTER_MAX_SECONDS);
}

/** Milliseconds since the epoch; NaN when it is no date. */
function parseDate(text: string): number {
  return HTTP_DATE.test(text) ? Date.parse(text) : NaN;
}
