/** What the soak has seen: every answer by time, what was acknowledged, and what was wrong. */
import type { Answer } from './wire.ts';

/** One second of the soak. */
export type Second = { good: number; unavailable: number; broken: number; slowestMs: number };

/** An answer of otpd comes within 3 s (contract, "Errors"); the rest is a loaded machine's. */
const ANSWER_MAX_MS = 4000;

/** More of them say nothing new. */
const WRONG_KEPT = 20;

/** Every header that every answer carries (contract, "Headers"). */
const EVERY_ANSWER = ['X-Request-Id: ', 'Cache-Control: no-store', 'Content-Length: ',
  'X-Content-Type-Options: nosniff', 'Content-Type: application/json'];

/** Takes note. */
export class Tally {
  readonly beganAt = performance.now();
  readonly seconds: Second[] = [];
  /** The otp_id of every 201, and the user of every 200: these were promised. */
  readonly issued: string[] = [];
  readonly redeemed: string[] = [];
  readonly wrong: string[] = [];
  wrongCount = 0;
  /** Codes whose messages were not there at once. */
  lateCodes = 0;
  answers = 0;
  slowestMs = 0;
  isClosed = false;
  /** Times of good answers, in ms since the beginning, while a fault is looked at. */
  #goodAt: number[] | null = null;

  /** Milliseconds since the beginning. */
  now(): number {
    return performance.now() - this.beganAt;
  }

  /** Takes note of an answer; null: the connection broke, or nothing came. */
  note(answer: Answer | null): void {
    const second = this.#second();
    if (answer === null) {
      second.broken += 1;
      return;
    }
    const { status, head, ms, body } = answer;
    this.answers += 1;
    second.slowestMs = Math.max(second.slowestMs, ms);
    this.slowestMs = Math.max(this.slowestMs, ms);
    if (ms > ANSWER_MAX_MS) this.noteWrong(`after ${Math.round(ms)} ms: ${status}`);
    const missing = EVERY_ANSWER.find((line) => !head.includes(line));
    if (missing !== undefined) this.noteWrong(`without ${missing}: ${status}`);
    if (status === 503) {
      second.unavailable += 1;
      const isRight = body === '{"error":"unavailable"}' && /\r\nRetry-After: [1-9]/.test(head);
      if (!isRight) this.noteWrong(`503 ${body}`);
    } else {
      second.good += 1;
      this.#goodAt?.push(this.now());
    }
  }

  /** Takes note of an answer that is not the model's. */
  noteWrong(text: string): void {
    this.wrongCount += 1;
    if (this.wrong.length < WRONG_KEPT) this.wrong.push(text);
  }

  /** From now on the times of good answers are kept. */
  watch(): void {
    this.#goodAt = [];
  }

  /** Ends that; gives the times. */
  unwatch(): number[] {
    const times = this.#goodAt ?? [];
    this.#goodAt = null;
    return times;
  }

  #second(): Second {
    const index = Math.floor(this.now() / 1000);
    while (this.seconds.length <= index) {
      this.seconds.push({ good: 0, unavailable: 0, broken: 0, slowestMs: 0 });
    }
    return this.seconds[index]!;
  }
}
