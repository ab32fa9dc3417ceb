/** How long a code works, in the words of a language. */
import { POLICY_BOUNDS } from '../policy.ts';

/** Says a number of whole seconds, such as `5 minutes`, `90 seconds`, `1 minute`. */
export type SayLifetime = (seconds: number) => string;

const SECONDS_PER_MINUTE = 60;

/**
 * Makes the words of a language.
 *
 * @param locale a language tag; one that is unknown gets English
 * @returns minutes where they are whole, else seconds, with plain spaces
 */
export function lifetimesIn(locale: string): SayLifetime {
  const formatOf = (unit: 'minute' | 'second') =>
    new Intl.NumberFormat([locale, 'en'], { style: 'unit', unit, unitDisplay: 'long' });
  const minutes = formatOf('minute');
  const seconds = formatOf('second');
  // Lifetimes are few, and formatting one takes longer than all the rest of a message.
  const known = new Map<number, string>();
  return (lifetime) => {
    let text = known.get(lifetime);
    if (text === undefined) {
      const isWhole = lifetime % SECONDS_PER_MINUTE === 0;
      text = isWhole ? minutes.format(lifetime / SECONDS_PER_MINUTE) : seconds.format(lifetime);
      text = text.replace(/\p{Zs}/gu, ' ');
      known.set(lifetime, text);
    }
    return text;
  };
}

/** Every text that can occur, for every lifetime that a policy can set. */
export function allLifetimes(say: SayLifetime): string[] {
  const { min, max } = POLICY_BOUNDS.lifetimeSeconds;
  return Array.from({ length: max - min + 1 }, (_, index) => say(min + index));
}
