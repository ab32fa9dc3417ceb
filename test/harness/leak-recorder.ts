/**
 * Records what the leak check reads: every code and key, and every text that may contain none. Each
 * process writes its own files.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from '../../src/db/query.ts';

/** Records an issued code; only the message sink sees one. */
export function recordCode(code: string): void {
  record('codes', code);
}

/** Records the key of an API client, or its digest; only the test that made the key sees it. */
export function recordKey(key: string): void {
  record('keys', key);
}

/** Records a text that a client or a reader of the log can see. */
export function recordVisible(text: string): void {
  record('visible', text);
}

/** A row as one text; binary values in both forms that could show a code. */
export function rowText(row: Row): string {
  return Object.entries(row).map(([column, value]) => {
    const text = Buffer.isBuffer(value) ? `${value.toString('latin1')} x${value.toString('hex')}`
      : String(value);
    return `${column}=${text}`;
  }).join(' ');
}

function record(kind: 'codes' | 'keys' | 'visible', text: string): void {
  const folder = process.env.OTPD_TEST_LEAKS;
  if (folder !== undefined) appendFileSync(join(folder, `${kind}.${process.pid}`), `${text}\n`);
}
