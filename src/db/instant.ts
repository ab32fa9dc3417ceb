/**
 * Instants: whole microseconds since 1970-01-01 00:00 UTC, as the rules compute with them, and
 * the text of a DATETIME(6) column, as MySQL sends and takes them. Session time zone is UTC.
 */
/** Microseconds since the epoch, UTC. Exact as a number until the year 2255. */
export type Instant = number;

export const MICROSECONDS_PER_SECOND = 1_000_000;
export const MICROSECONDS_PER_MILLISECOND = 1000;

/**
 * Reads a DATETIME(6) text, e.g. `2026-01-31 08:00:00.000001`.
 *
 * @returns the instant it names
 */
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

/** Like parseInstant, for a column that may be NULL. */
export function parseNullableInstant(text: string | null): Instant | null {
  return text === null ? null : parseInstant(text);
}

/** The texts of a list of requests are few and the same for all: their one time, and its ends. */
const texts = new Map<Instant, string>();
const TEXTS_MAX = 64;

/** Writes an instant as a DATETIME(6) text. */
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

/** Like formatInstant, for a column that may be NULL. */
export function formatNullableInstant(instant: Instant | null): string | null {
  return instant === null ? null : formatInstant(instant);
}

/** The instant that lies whole seconds after another. */
export function addSeconds(instant: Instant, seconds: number): Instant {
  return instant + seconds * MICROSECONDS_PER_SECOND;
}

/**
 * Whole seconds from one instant to a later one, rounded up: after waiting them the later one
 * has come (RFC 9110, 10.2.3).
 */
export function secondsUntil(now: Instant, later: Instant): number {
  return Math.ceil((later - now) / MICROSECONDS_PER_SECOND);
}
