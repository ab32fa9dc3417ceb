/** What the soak observes: counts over time, acknowledged writes and wrong responses. */
import type { Answer } from './wire.ts';

/** One second of the soak. */
export type Second = { good: number; unavailable: number; broken: number; slowestMs: number };

/** otpd answers within 3 s (docs/api.md, "Errors"); a loaded machine may add one. */
const RESPONSE_MAX_MS = 4000;

/** Further ones would only repeat the first. */
const WRONG_KEPT_MAX = 20;

/** The headers that every response has (docs/api.md, "Headers"). */
const REQUIRED_HEADERS = ['X-Request-Id: ', 'Cache-Control: no-store', 'Content-Length: ',
  'X-Content-Type-Options: nosniff', 'Content-Type: application/json'];

/** Counts responses and checks what all of them have in common. */
export class Observations {
  readonly beganAt = performance.now();
  readonly seconds: Second[] = [];
  /** Acknowledged writes: the otp_id of each 201 and the user of each 200. */
  readonly issued: string[] = [];
  readonly redeemed: string[] = [];
  readonly wrong: string[] = [];
  wrongCount = 0;
  /** Codes whose message had not arrived when the client wanted to verify them. */
  lateCodes = 0;
  responses = 0;
  slowestMs = 0;
  isClosed = false;
  /** Times of good responses during a fault; null otherwise. */
  #goodAt: number[] | null = null;

  /** Milliseconds since the start of the soak. */
  now(): number {
    return performance.now() - this.beganAt;
  }

  /** Counts a response; null for a broken connection or a timeout. */
  count(answer: Answer | null): void {
    const second = this.#second();
    if (answer === null) {
      second.broken += 1;
      return;
    }
    const { status, head, ms, body } = answer;
    this.responses += 1;
    second.slowestMs = Math.max(second.slowestMs, ms);
    this.slowestMs = Math.max(this.slowestMs, ms);
    if (ms > RESPONSE_MAX_MS) this.addWrong(`after ${Math.round(ms)} ms: ${status}`);
    const missing = REQUIRED_HEADERS.find((line) => !head.includes(line));
    if (missing !== undefined) this.addWrong(`without ${missing}: ${status}`);
    if (status === 503) {
      second.unavailable += 1;
      const isRight = body === '{"error":"unavailable"}' && /\r\nRetry-After: [1-9]/.test(head);
      if (!isRight) this.addWrong(`503 ${body}`);
    } else {
      second.good += 1;
      this.#goodAt?.push(this.now());
    }
  }

  /** Counts a response that differs from the model. */
  addWrong(text: string): void {
    this.wrongCount += 1;
    if (this.wrong.length < WRONG_KEPT_MAX) this.wrong.push(text);
  }

  /** Starts to record the times of good responses. */
  startWatch(): void {
    this.#goodAt = [];
  }

  /** Returns the times recorded since `startWatch`. */
  endWatch(): number[] {
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
