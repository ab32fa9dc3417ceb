/**
 * The model of one flow: every step, what its answer must be, and whether the client repeats it. A
 * request without an answer, or with 503, may have happened.
 */
import { isRedeemed, isReplay, isUsed, isWrongCode, issuedId } from '../soak/expect.ts';
import type { Answer } from '../soak/wire.ts';

/** The steps of a flow in their order; `replay` repeats the key of `request`. */
export const STEPS = ['request', 'wrong', 'right', 'again', 'status', 'replay'] as const;

export type Step = typeof STEPS[number];

/** What the client does after an answer. */
export type Verdict = 'next' | 'repeat' | 'end';

/** The third wrong code would lock the pair; two may have counted without an answer. */
const WRONG_MAX = 2;

/** How many requests a user has left after the first. */
const LEFT = 2;

export class FlowModel {
  /** The answers that the contract forbids, in words. */
  readonly wrong: string[] = [];
  /** Codes that were redeemed under two keys. */
  redeemedTwice = 0;
  otpId: string | null = null;
  isRedeemed = false;
  /** Attempts of this step that may have happened. */
  #unanswered = 0;
  #issued: Answer | null = null;

  /** Judges an answer; null when the connection broke or was silent. */
  judge(step: Step, answer: Answer | null): Verdict {
    if (answer === null || answer.status === 503) {
      if (answer !== null && answer.body !== '{"error":"unavailable"}') this.#add(step, answer);
      this.#unanswered += 1;
      if (step !== 'wrong' || this.#unanswered < WRONG_MAX) return 'repeat';
      this.#unanswered = 0;
      return 'next';
    }
    const isRight = this.#isRight(step, answer);
    if (!isRight) this.#add(step, answer);
    this.#unanswered = 0;
    return isRight || step === 'wrong' || step === 'status' ? 'next' : 'end';
  }

  #isRight(step: Step, answer: Answer): boolean {
    switch (step) {
      case 'request':
        this.otpId = issuedId(answer, LEFT);
        this.#issued = answer;
        return this.otpId !== null && this.#mayBe(answer);
      case 'wrong':
        return isWrongCode(answer, this.#unanswered);
      case 'right':
        this.isRedeemed = isRedeemed(answer);
        return this.isRedeemed && this.#mayBe(answer);
      case 'again':
        if (answer.status === 200) this.redeemedTwice += 1;
        return isUsed(answer);
      case 'status':
        return answer.status === 200 && answer.body.startsWith(`{"otp_id":"${this.otpId}",`)
          && answer.body.includes('"status":"verified"');
      case 'replay':
        return this.#issued !== null && isReplay(answer, this.#issued);
      default:
        return step satisfies never;
    }
  }

  /** A replay is right only after an attempt that may have happened. */
  #mayBe({ head }: Answer): boolean {
    return !head.includes('\r\nIdempotent-Replayed: ') || this.#unanswered > 0;
  }

  #add(step: Step, { status, body }: Answer): void {
    this.wrong.push(`${step} after ${this.#unanswered} without an answer: ${status} ${body}`);
  }
}
