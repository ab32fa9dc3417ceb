/** What the doctor finds: all is well, somebody should look, or otpd does not work as it must. */

/** One finding, which is one line. */
export type Finding = Readonly<{
  level: 'ok' | 'warn' | 'fault';
  /** What was looked at. */
  check: string;
  found: string;
  /** What to do about it; null when there is nothing to do. */
  remedy: string | null;
}>;

/** All is well. */
export function ok(check: string, found: string): Finding {
  return { level: 'ok', check, found, remedy: null };
}

/** It works, and may not be what was meant. */
export function warn(check: string, found: string, remedy: string): Finding {
  return { level: 'warn', check, found, remedy };
}

/** otpd does not start, does not answer, or breaks a promise. */
export function fault(check: string, found: string, remedy: string): Finding {
  return { level: 'fault', check, found, remedy };
}
