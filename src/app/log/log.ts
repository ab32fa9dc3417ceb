/** The log: one line for each event, on standard error. */
import { isatty } from 'node:tty';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { member, toJsonLine, toTextLine } from './line.ts';
import type { Level } from './line.ts';
import { LogRelay } from './relay.ts';
import { LogWriter } from './writer.ts';

const STANDARD_ERROR = 2;
const SECOND_MS = 1000;

/** From the least to the most that is told. */
const RANKS: Readonly<Record<Level, number>> = Object.freeze({ error: 0, warn: 1, info: 2 });

/** Little enough for a line to go into a pipe in one piece, whatever else there is in it. */
const NAME_MAX_CHARACTERS = 60;
const MESSAGE_MAX_CHARACTERS = 450;
const STACK_MAX_CHARACTERS = 1200;

/** As it is set. */
export type LogSettings = Readonly<{
  /** The least serious events that are told. */
  level: Level;
  /** Null: text on a terminal, JSON anywhere else. */
  format: 'json' | 'text' | null;
  /** Whether users and addresses stand in it as they are. */
  isRaw: boolean;
}>;

/** What this machine takes for the time. */
export function readHostClock(): Instant {
  return Date.now() * MICROSECONDS_PER_MILLISECOND;
}

/** The log of one process. */
export class Log {
  /** Where the workers' lines go; null when they write for themselves. */
  readonly relay: LogRelay | null;
  readonly #writer: LogWriter;
  readonly #rank: number;
  readonly #isText: boolean;
  readonly #isColoured: boolean;
  /** The time that was told last: of many lines in a second only the end differs. */
  #second = NaN;
  #prefix = '';

  /** Opens it; a process has one. */
  constructor({ level, format }: LogSettings) {
    const isTerminal = isatty(STANDARD_ERROR);
    this.#isText = format === null ? isTerminal : format === 'text';
    this.#isColoured = isTerminal;
    this.#rank = RANKS[level];
    // A reader who goes away is no error of ours; the writer has counted what was lost.
    process.stderr.on('error', () => {});
    this.#writer = new LogWriter(STANDARD_ERROR, (count) =>
      this.#format('warn', 'log_lines_dropped', `,"count":${count}`));
    this.relay = this.#writer.isSocket ? new LogRelay(this.#writer) : null;
  }

  /** Lines that were dropped because nobody read them. */
  get dropped(): number {
    return this.#writer.dropped;
  }

  /** Whether events of a level are told. */
  isEnabled(level: Level): boolean {
    return RANKS[level] <= this.#rank;
  }

  /**
   * Tells an event, if it is wanted.
   *
   * @param event what it is called: lower case and underscores
   * @param members as `member` makes them
   */
  log(level: Level, event: string, members = ''): void {
    if (this.isEnabled(level)) this.#writer.push(this.#format(level, event, members));
  }

  /** Resolves when all is written, or at the timer in milliseconds. */
  async flush(timeoutMs: number): Promise<void> {
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

  /** By the clock of this machine, as other logs have it; nothing is decided by it. */
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
 * Members for an error: its name and message, and where it comes from when that is asked for. Of
 * a failed statement they are the name and the code, never the values.
 */
export function describeError(error: unknown, hasStack: boolean): string {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return member('error', name, NAME_MAX_CHARACTERS)
    + member('message', message, MESSAGE_MAX_CHARACTERS)
    + (hasStack ? member('stack', stack, STACK_MAX_CHARACTERS) : '');
}
