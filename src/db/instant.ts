/** Points in time as numbers, and as the text of DATETIME(6) columns in UTC. */

/** Whole microseconds since 1970-01-01 00:00 UTC. Exact as a number until the year 2255. */
export type Instant = number;

export const MICROSECONDS_PER_SECOND = 1_000_000;
export const MICROSECONDS_PER_MILLISECOND = 1000;
export const MICROSECONDS_PER_DAY = 86_400 * MICROSECONDS_PER_SECOND;

/** Parses DATETIME(6) text such as `2026-01-31 08:00:00.000001`. */
export function parseInstant(text: string): Instant {
  const milliseconds = Date.UTC(
    Number(text.slice(0, 4)),
    Number(text.slice(5, 7)) - 1,
    Number(text.slice(8, 10)),
    Number(text.slice(11, 13)),
    Number(text.slice(14, 16)),
    Number(text.slice(17, 19)),
  );
  return milliseconds * MICROSECONDS_PER_MILLISECOND + Number(text.slice(20, 26).padEnd(6, '0'));
}

export function parseNullableInstant(text: string | null): Instant | null {
  return text === null ? null : parseInstant(text);
}

/** A batch formats the same few instants many times: its own time and the ends of its windows. */
const texts = new Map<Instant, string>();
const TEXTS_MAX = 64;

export function formatInstant(instant: Instant): string {
  let text = texts.get(instant);
  if (text === undefined) {
    if (texts.size === TEXTS_MAX) texts.clear();
    text = textOf(instant);
    texts.set(instant, text);
  }
  return text;
}

function textOf(instant: Instant): string {
  const seconds = Math.floor(instant / MICROSECONDS_PER_SECOND);
  const fraction = instant - seconds * MICROSECONDS_PER_SECOND;
  const text = new Date(seconds * 1000).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}.${String(fraction).padStart(6, '0')}`;
}

export function formatNullableInstant(instant: Instant | null): string | null {
  return instant === null ? null : formatInstant(instant);
}

export function addSeconds(instant: Instant, seconds: number): Instant {
  return instant + seconds * MICROSECONDS_PER_SECOND;
}

/**
 * Whole seconds until a later instant, rounded up, so that a client that waits for them is not too
 * early (RFC 9110, 10.2.3).
 */
export function secondsUntil(now: Instant, later: Instant): number {
  return Math.ceil((later - now) / MICROSECONDS_PER_SECOND);
}
