/**
 * What the suite leaves for the leak test at its end: every code that was issued, and every byte
 * in which no code may occur. Each process writes files of its own.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

/** Notes a code that was issued; the message sink is the only one who sees it. */
export function noteCode(code: string): void {
  note('codes', code);
}

/** Notes a caller's key, or its digest; the one who made it is the only one who sees it. */
export function noteKey(key: string): void {
  note('keys', key);
}

/** Notes what a client or a log reader could see. */
export function noteVisible(text: string): void {
  note('visible', text);
}

function note(kind: 'codes' | 'keys' | 'visible', text: string): void {
  const folder = process.env.OTPD_TEST_TRAIL;
  if (folder !== undefined) appendFileSync(join(folder, `${kind}.${process.pid}`), `${text}\n`);
}
