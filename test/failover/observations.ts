/** What the clients of one event observe, and what follows from it. */

/** One second of the load. */
export type Second = { good: number; failed: number };

/** Further ones would only repeat the first. */
const WRONG_KEPT_MAX = 10;

export class Observations {
  readonly #beganAt = performance.now();
  readonly seconds: Second[] = [];
  /** Acknowledged by 201, with the time of the first 201. */
  readonly issued = new Map<string, number>();
  /** The otp_id of each acknowledged redemption. */
  readonly redeemed: string[] = [];
  readonly wrong: string[] = [];
  readonly messages = new Map<string, number>();
  wrongCount = 0;
  redeemedTwice = 0;
  sentTwice = 0;
  /** Answers of 503, and connections that broke or stayed silent. */
  failed = 0;
  slowestMs = 0;
  flows = 0;
  #lastWriteMs = 0;
  readonly #goodAt: number[] = [];

  /** Milliseconds since the start of the load. */
  now(): number {
    return performance.now() - this.#beganAt;
  }

  get sinceWriteMs(): number {
    return this.now() - this.#lastWriteMs;
  }

  /** @param isWrite whether the answer needed a commit */
  addGood(ms: number, isWrite: boolean): void {
    this.#goodAt.push(this.now());
    if (isWrite) this.#lastWriteMs = this.now();
    this.slowestMs = Math.max(this.slowestMs, ms);
    this.#second().good += 1;
  }

  /** @param ms null when there was no answer */
  addFailed(ms: number | null): void {
    this.failed += 1;
    this.slowestMs = Math.max(this.slowestMs, ms ?? 0);
    this.#second().failed += 1;
  }

  addWrong(text: string): void {
    this.wrongCount += 1;
    if (this.wrong.length < WRONG_KEPT_MAX) this.wrong.push(text);
  }

  addMessage(otpId: string): void {
    if (this.messages.has(otpId)) this.sentTwice += 1;
    else this.messages.set(otpId, this.now());
  }

  /** The longest time without a good answer, from the start of the load to `untilMs`. */
  longestGap(untilMs: number): Gap {
    return longestGap([0, ...this.#goodAt.filter((at) => at < untilMs), untilMs]);
  }

  /** The slowest message, after its 201 or after the gap in which its 201 fell. */
  slowestMessageMs(gap: Gap): number | null {
    return slowestMessageMs(this.issued, this.messages, gap);
  }

  #second(): Second {
    const index = Math.floor(this.now() / 1000);
    while (this.seconds.length <= index) this.seconds.push({ good: 0, failed: 0 });
    return this.seconds[index]!;
  }
}

export type Gap = Readonly<{ fromMs: number; toMs: number }>;

export function longestGap(times: readonly number[]): Gap {
  let longest: Gap = { fromMs: 0, toMs: 0 };
  times.forEach((toMs, index) => {
    const fromMs = times[index - 1] ?? toMs;
    if (toMs - fromMs > longest.toMs - longest.fromMs) longest = { fromMs, toMs };
  });
  return longest;
}

/** Null when a message never came. */
export function slowestMessageMs(
  issued: ReadonlyMap<string, number>,
  messages: ReadonlyMap<string, number>,
  { fromMs, toMs }: Gap,
): number | null {
  let slowest = 0;
  for (const [otpId, at] of issued) {
    const arrivedAt = messages.get(otpId);
    if (arrivedAt === undefined) return null;
    // Its 201 may be the last answer before the gap.
    const isInGap = at >= fromMs && at < toMs;
    slowest = Math.max(slowest, arrivedAt - (isInGap && arrivedAt > toMs ? toMs : at));
  }
  return slowest;
}
