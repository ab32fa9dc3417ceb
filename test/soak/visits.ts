/**
 * The load of the soak and the model of its responses. Each visit has a user of its own, so that
 * the model is a few numbers. A request without a response, or with 503, may have happened: the
 * visit repeats it until the outcome is known.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { newClientIp, newUser, otpRequest, verifyRequest } from '../../bench/requests.ts';
import {
  isLimited, isRedeemed, isReplay, isUsed, isWrongCode, issuedId,
} from './expect.ts';
import type { Pace } from './pace.ts';
import type { Observations } from './observations.ts';
import { Wire } from './wire.ts';
import type { Answer } from './wire.ts';

/** Percent of all visits. */
const REPLAYS = 25;
const LIMITED = 12;
const WRONG = 30;
const TWICE_AT_ONCE = 10;

/** Pause of a client before it repeats a request. */
const RETRY_MS = 100;

/** A message follows its commit at once, unless the process that holds the message has died. */
const CODE_MAX_MS = 1500;
const CODE_POLL_MS = 5;

const USER_LIMIT = 3;

/** What all visits share. */
export type Context = Readonly<{
  port: number;
  pace: Pace;
  observations: Observations;
  /** The last code that otpd printed for each user. */
  codes: Map<string, string>;
}>;

/** Makes one visit after another until the observations are closed. */
export class Visitor {
  readonly #context: Context;
  readonly #wire: Wire;
  /** Carries the second of two simultaneous requests. */
  readonly #other: Wire;
  #user = '';

  constructor(context: Context) {
    this.#context = context;
    this.#wire = new Wire(context.port);
    this.#other = new Wire(context.port);
  }

  async run(): Promise<void> {
    while (!this.#context.observations.isClosed) await this.#visit();
    this.#wire.close();
    this.#other.close();
  }

  async #visit(): Promise<void> {
    const { observations, codes } = this.#context;
    this.#user = newUser();
    const request = otpRequest(this.#user, newClientIp());
    const issued = await this.#settle(request);
    if (issued === null) return;
    this.#expectIssued(issued, USER_LIMIT - 1);
    if (happens(REPLAYS)) {
      const again = await this.#settle(request);
      this.#check(again === null || isReplay(again, issued), 'a repeat', again);
    }
    if (happens(LIMITED)) return this.#exhaust();
    const code = await this.#code();
    if (code === null) {
      observations.lateCodes += 1;
      return;
    }
    if (happens(WRONG)) await this.#tryWrong(code);
    if (happens(TWICE_AT_ONCE)) await this.#redeemTwice(code);
    else await this.#redeem(code);
    codes.delete(this.#user);
  }

  /** Repeats a request until it is answered other than by 503; null when the soak has ended. */
  async #settle(request: string): Promise<Answer | null> {
    const { observations } = this.#context;
    while (!observations.isClosed) {
      const answer = await this.#send(this.#wire, request);
      if (answer !== null && answer.status !== 503) return answer;
      await delay(RETRY_MS);
    }
    return null;
  }

  async #send(wire: Wire, request: string): Promise<Answer | null> {
    const { pace, observations } = this.#context;
    await pace.turn();
    const answer = await wire.send(request);
    observations.count(answer);
    return answer;
  }

  /** Requests all codes of the user and one more. */
  async #exhaust(): Promise<void> {
    for (let left = USER_LIMIT - 2; left >= 0; left -= 1) {
      const answer = await this.#settle(otpRequest(this.#user, newClientIp()));
      if (answer === null) return;
      this.#expectIssued(answer, left);
    }
    const refused = await this.#settle(otpRequest(this.#user, newClientIp()));
    this.#check(refused === null || isLimited(refused), 'a request over the limit', refused);
  }

  /** The code of the user; null when its message is late. */
  async #code(): Promise<string | null> {
    const { codes } = this.#context;
    for (let waited = 0; waited < CODE_MAX_MS; waited += CODE_POLL_MS) {
      const code = codes.get(this.#user);
      if (code !== undefined) return code;
      await delay(CODE_POLL_MS);
    }
    return null;
  }

  /** Sends a wrong code; twice at most, because an attempt without a response may have counted. */
  async #tryWrong(code: string): Promise<void> {
    const wrong = String((Number(code) + 1) % 1_000_000).padStart(6, '0');
    const request = verifyRequest({ userId: this.#user, code: wrong });
    for (let uncounted = 0; uncounted < 2; uncounted += 1) {
      const answer = await this.#send(this.#wire, request);
      if (answer !== null && answer.status !== 503) {
        this.#check(isWrongCode(answer, uncounted), 'a wrong code', answer);
        return;
      }
      await delay(RETRY_MS);
    }
  }

  async #redeem(code: string): Promise<void> {
    const known = { userId: this.#user, code };
    const request = verifyRequest(known, randomBytes(16).toString('hex'));
    const redeemed = await this.#settle(request);
    if (redeemed === null) return;
    this.#expectRedeemed(redeemed);
    if (happens(REPLAYS)) {
      const again = await this.#settle(request);
      this.#check(again === null || isReplay(again, redeemed), 'a repeat', again);
    }
    await this.#expectUsed(code);
  }

  /** Of two simultaneous requests exactly one succeeds; at most one if a response is missing. */
  async #redeemTwice(code: string): Promise<void> {
    const request = verifyRequest({ userId: this.#user, code });
    const answers = await Promise.all([
      this.#send(this.#wire, request), this.#send(this.#other, request),
    ]);
    const known = answers.filter((answer) => answer !== null && answer.status !== 503);
    const right = known.filter((answer) => answer!.status === 200);
    const isOne = right.length === 1 || (right.length === 0 && known.length < 2);
    this.#check(isOne, 'two simultaneous requests', known[0] ?? null);
    for (const answer of known) {
      if (answer!.status === 200) this.#expectRedeemed(answer!);
      else this.#check(isUsed(answer!), 'the second of two', answer!);
    }
    if (right.length === 1) await this.#expectUsed(code);
  }

  async #expectUsed(code: string): Promise<void> {
    const answer = await this.#settle(verifyRequest({ userId: this.#user, code }));
    this.#check(answer === null || isUsed(answer), 'a used code', answer);
  }

  #expectIssued(answer: Answer, left: number): void {
    const otpId = issuedId(answer, left);
    this.#check(otpId !== null, `a code, ${left} left`, answer);
    if (otpId !== null) this.#context.observations.issued.push(otpId);
  }

  #expectRedeemed(answer: Answer): void {
    this.#check(isRedeemed(answer), 'the right code', answer);
    this.#context.observations.redeemed.push(this.#user);
  }

  #check(isRight: boolean, what: string, answer: Answer | null): void {
    const text = answer === null ? 'no answer' : `${answer.status} ${answer.body}`;
    if (!isRight) this.#context.observations.addWrong(`${what}: ${text}`);
  }
}

function happens(percent: number): boolean {
  return randomInt(100) < percent;
}
