/** What the log tells, and in which form. */
import type { Reader } from './config-reader.ts';
import type { Level } from './log-line.ts';

/** As it is set. */
export type LogSettings = Readonly<{
  /** The least serious events that are told. */
  level: Level;
  /** Null: text on a terminal, JSON anywhere else. */
  format: 'json' | 'text' | null;
  /** Whether users and addresses stand in it as they are. */
  isRaw: boolean;
}>;

/** Reads it; what is wrong goes to the reader's faults. */
export function readLog(reader: Reader): LogSettings {
  return Object.freeze({
    level: choose(reader, 'LOG_LEVEL', ['info', 'warn', 'error']) ?? 'info',
    format: choose(reader, 'LOG_FORMAT', ['json', 'text']),
    isRaw: choose(reader, 'LOG_RAW_IDS', ['0', '1']) === '1',
  });
}

/** One of the choices, or null when it is not set or is none of them. */
function choose<T extends string>(reader: Reader, name: string, choices: readonly T[]): T | null {
  const text = reader.text(name);
  if (text === undefined) return null;
  const found = choices.find((choice) => choice === text);
  if (found === undefined) reader.faults.push(`${name} must be ${choices.join(' or ')}`);
  return found ?? null;
}
