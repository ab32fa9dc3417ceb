/**
 * Bounds the log lines that a stranger can cause: of each event and subject at most LINES_MAX in a
 * minute, then one line with the number of those withheld. With at most SUBJECTS_MAX subjects a
 * process writes at most 3 MB of such lines in a minute.
 */
import type { Level } from './line.ts';

const LINES_MAX = 10;
const WINDOW_MS = 60_000;

/** Further subjects of an event share one allowance, so that memory and lines stay bounded. */
const SUBJECTS_MAX = 1000;

type Allowance = { level: Level; event: string; subject: string; lines: number };

/** @param subject the member of the log line that names the subject, or '' */
type OnWithheld = (level: Level, event: string, subject: string, count: number) => void;

export class LineLimiter {
  readonly #allowances = new Map<string, Allowance>();
  readonly #onWithheld: OnWithheld;
  #timer: NodeJS.Timeout | null = null;

  constructor(onWithheld: OnWithheld) {
    this.#onWithheld = onWithheld;
  }

  /** Whether a line may be written; counts it. */
  admits(level: Level, event: string, subject: string): boolean {
    const allowance = this.#allowanceOf(level, event, subject);
    allowance.lines += 1;
    this.#timer ??= setTimeout(() => this.endWindow(), WINDOW_MS).unref();
    return allowance.lines <= LINES_MAX;
  }

  #allowanceOf(level: Level, event: string, subject: string): Allowance {
    const key = event + subject;
    const known = this.#allowances.get(key);
    if (known !== undefined) return known;
    if (this.#allowances.size >= SUBJECTS_MAX && subject !== '') {
      return this.#allowanceOf(level, event, '');
    }
    const allowance = { level, event, subject, lines: 0 };
    this.#allowances.set(key, allowance);
    return allowance;
  }

  /** Reports what was withheld, and starts over. */
  endWindow(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const all = [...this.#allowances.values()];
    this.#allowances.clear();
    for (const { level, event, subject, lines } of all) {
      if (lines > LINES_MAX) this.#onWithheld(level, event, subject, lines - LINES_MAX);
    }
  }
}
