/** The log of a process: one line per event on standard error. */
import { isatty } from 'node:tty';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { member, toJsonLine, toTextLine, WORD_MAX_CHARACTERS } from './line.ts';
import type { Level } from './line.ts';
import { LogRelay, LogWriter } from './writer.ts';

const STANDARD_ERROR = 2;
const SECOND_MS = 1000;

/** Levels from least to most verbose. */
const RANKS: Readonly<Record<Level, number>> = Object.freeze({ error: 0, warn: 1, info: 2 });

/** With these limits a line stays below PIPE_BUF, whatever its other members are. */
const NAME_MAX_CHARACTERS = 60;
const MESSAGE_MAX_CHARACTERS = 450;
const STACK_MAX_CHARACTERS = 1200;

export type LogSettings = Readonly<{
  /** The least serious level that is logged. */
  level: Level;
  /** Null: text on a terminal, JSON elsewhere. */
  format: 'json' | 'text' | null;
  /** True logs users and client IPs instead of their pseudonyms. */
  isRaw: boolean;
}>;

/** The clock of this machine, for the time of log lines and for doctor; no rule uses it. */
export function readHostClock(): Instant {
  return Date.now() * MICROSECONDS_PER_MILLISECOND;
}

export class Log {
  /** Forwards the lines of workers; null when workers write to standard error themselves. */
  readonly relay: LogRelay | null;
  readonly #writer: LogWriter;
  readonly #limiter = new LineLimiter((level, event, subject, count) => {
    const of = member('of', event, WORD_MAX_CHARACTERS);
    this.log(level, 'log_lines_withheld', `${of}${subject},"count":${count}`);
  });
  readonly #rank: number;
  readonly #isText: boolean;
  readonly #isColoured: boolean;
  /** The second of the last line and its text: lines of one second differ in milliseconds only. */
  #second = NaN;
  #prefix = '';

  constructor({ level, format }: LogSettings) {
    const isTerminal = isatty(STANDARD_ERROR);
    this.#isText = format === null ? isTerminal : format === 'text';
    this.#isColoured = isTerminal;
    this.#rank = RANKS[level];
    // It is not an error that a reader closes standard error; the writer counts the lost lines.
    process.stderr.on('error', () => {});
    this.#writer = new LogWriter(STANDARD_ERROR, (count) =>
      this.#format('warn', 'log_lines_dropped', `,"count":${count}`));
    this.relay = this.#writer.isSocket ? new LogRelay(this.#writer) : null;
  }

  /** Lines dropped because the reader was too slow. */
  get dropped(): number {
    return this.#writer.dropped;
  }

  isEnabled(level: Level): boolean {
    return RANKS[level] <= this.#rank;
  }

  /**
   * Logs an event unless its level is disabled.
   *
   * @param event a name in lower case and underscores
   * @param members any number of `member` results
   */
  log(level: Level, event: string, members = ''): void {
    if (this.isEnabled(level)) this.#writer.push(this.#format(level, event, members));
  }

  /**
   * Whether a line that a stranger can cause may be written now; counts it.
   *
   * @param subject the member that names who caused it, or ''
   */
  admits(level: Level, event: string, subject: string): boolean {
    return this.isEnabled(level) && this.#limiter.admits(level, event, subject);
  }

  /** Waits until every line is written, for at most `timeoutMs`. */
  async flush(timeoutMs: number): Promise<void> {
    this.#limiter.endWindow();
    let timer: NodeJS.Timeout | undefined;
    const timedOut = new Promise<void>((resolve) => { timer = setTimeout(resolve, timeoutMs); });
    await Promise.race([timedOut, this.#flushed()]);
    clearTimeout(timer);
  }

  async #flushed(): Promise<void> {
    await this.relay?.waitForEnd();
    await this.#writer.waitUntilEmpty();
  }

  #format(level: Level, event: string, members: string): string {
    const line = toJsonLine(this.#time(), level, event, members);
    return this.#isText ? toTextLine(line, this.#isColoured) : line;
  }

  #time(): string {
    const ms = readHostClock() / MICROSECONDS_PER_MILLISECOND;
    const second = Math.floor(ms / SECOND_MS);
    if (second !== this.#second) {
      this.#second = second;
      this.#prefix = new Date(second * SECOND_MS).toISOString().slice(0, -'000Z'.length);
    }
    return `${this.#prefix}${String(ms % SECOND_MS).padStart(3, '0')}Z`;
  }
}

/**
 * The members `error`, `message` and, on request, `stack`. The message of a failed statement names
 * the statement and the MySQL error, never a value.
 */
export function describeError(error: unknown, hasStack: boolean): string {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return member('error', name, NAME_MAX_CHARACTERS)
    + member('message', message, MESSAGE_MAX_CHARACTERS)
    + (hasStack ? member('stack', stack, STACK_MAX_CHARACTERS) : '');
}

const LINES_MAX = 10;
const WINDOW_MS = 60_000;

/** Further subjects of an event share one allowance, so that memory and lines stay bounded. */
const SUBJECTS_MAX = 1000;

type Allowance = { level: Level; event: string; subject: string; lines: number };

/** @param subject the member of the log line that names the subject, or '' */
type OnWithheld = (level: Level, event: string, subject: string, count: number) => void;

/**
 * Bounds the log lines that a stranger can cause: of each event and subject at most LINES_MAX in a
 * minute, then one line with the number of those withheld. With at most SUBJECTS_MAX subjects a
 * process writes at most 3 MB of such lines in a minute.
 */
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
