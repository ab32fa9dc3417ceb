/** The log of a process: one line per event on standard error. */
import { isatty } from 'node:tty';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { member, toJsonLine, toTextLine, WORD_MAX_CHARACTERS } from './line.ts';
import type { Level } from './line.ts';
import { LineLimiter } from './line-limiter.ts';
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
