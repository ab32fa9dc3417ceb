/**
 * The load of the soak, and the model that holds every answer to the contract: each visit is a
 * user whom nobody else is, so that the model of one is a few numbers. What was not answered, or
 * answered 503, may have happened or not: the visit repeats it until it knows.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { issueRequest, newAddress, newUser, verifyRequest } from '../requests.ts';
import {
  isLimited, isRedeemed, isReplay, isUsed, isWrongCode, issuedId,
} from './expect.ts';
import type { Pace } from './pace.ts';
import type { Tally } from './tally.ts';
import { Wire } from './wire.ts';
import type { Answer } from './wire.ts';

/** How many of 100 visits do so. */
const REPLAYS = 25;
const LIMITED = 12;
const WRONG = 30;
const TWICE_AT_ONCE = 10;

/** A client that was told to come again. */
const RETRY_MS = 100;

/** A message is printed right after its commit; of a process that died, later. */
const CODE_MAX_MS = 1500;
const CODE_POLL_MS = 5;

const USER_LIMIT = 3;

/** What the visits share. */
export type Place = Readonly<{
  port: number;
  pace: Pace;
  tally: Tally;
  /** The codes that were sent, by user: the last of each. */
  codes: Map<string, string>;
}>;

/** Makes visits, one after the other, until it is told that it is over. */
export class Visitor {
  readonly #place: Place;
  readonly #wire: Wire;
  /** For the second of two requests at once. */
  readonly #other: Wire;
  #user = '';

  constructor(place: Place) {
    this.#place = place;
    this.#wire = new Wire(place.port);
    this.#other = new Wire(place.port);
  }

  /** Visits until the tally is closed. */
  async run(): Promise<void> {
    while (!this.#place.tally.isClosed) await this.#visit();
    this.#wire.close();
    this.#other.close();
  }

  async #visit(): Promise<void> {
    const { tally, codes } = this.#place;
    this.#user = newUser();
    const request = issueRequest(this.#user, newAddress());
    const issued = await this.#settle(request);
    if (issued === null) return;
    this.#noteIssued(issued, USER_LIMIT - 1);
    if (happens(REPLAYS)) {
      const again = await this.#settle(request);
      this.#hold(again === null || isReplay(again, issued), 'a repeat', again);
    }
    if (happens(LIMITED)) return this.#exhaust();
    const code = await this.#code();
    if (code === null) {
      tally.lateCodes += 1;
      return;
    }
    if (happens(WRONG)) await this.#tryWrong(code);
    if (happens(TWICE_AT_ONCE)) await this.#redeemTwice(code);
    else await this.#redeem(code);
    codes.delete(this.#user);
  }

  /** Sends until the answer is neither a 503 nor missing; null when the soak ended meanwhile. */
  async #settle(request: string): Promise<Answer | null> {
    const { tally } = this.#place;
    while (!tally.isClosed) {
      const answer = await this.#send(this.#wire, request);
      if (answer !== null && answer.status !== 503) return answer;
      await delay(RETRY_MS);
    }
    return null;
  }

  async #send(wire: Wire, request: string): Promise<Answer | null> {
    const { pace, tally } = this.#place;
    await pace.turn();
    const answer = await wire.send(request);
    tally.note(answer);
    return answer;
  }

  /** All codes of the user, then one too many. */
  async #exhaust(): Promise<void> {
    for (let left = USER_LIMIT - 2; left >= 0; left -= 1) {
      const answer = await this.#settle(issueRequest(this.#user, newAddress()));
      if (answer === null) return;
      this.#noteIssued(answer, left);
    }
    const refused = await this.#settle(issueRequest(this.#user, newAddress()));
    this.#hold(refused === null || isLimited(refused), 'a request too many', refused);
  }

  /** The code of the user; null when its message is late. */
  async #code(): Promise<string | null> {
    const { codes } = this.#place;
    for (let waited = 0; waited < CODE_MAX_MS; waited += CODE_POLL_MS) {
      const code = codes.get(this.#user);
      if (code !== undefined) return code;
      await delay(CODE_POLL_MS);
    }
    return null;
  }

  /** One wrong code; a try that was not answered may have counted, so there are two at most. */
  async #tryWrong(code: string): Promise<void> {
    const wrong = String((Number(code) + 1) % 1_000_000).padStart(6, '0');
    const request = verifyRequest({ userId: this.#user, code: wrong });
    for (let uncounted = 0; uncounted < 2; uncounted += 1) {
      const answer = await this.#send(this.#wire, request);
      if (answer !== null && answer.status !== 503) {
        this.#hold(isWrongCode(answer, uncounted), 'a wrong code', answer);
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
    this.#noteRedeemed(redeemed);
    if (happens(REPLAYS)) {
      const again = await this.#settle(request);
      this.#hold(again === null || isReplay(again, redeemed), 'a repeat', again);
    }
    await this.#expectUsed(code);
  }

  /** Of two at once one is right; when an answer is missing, at most one. */
  async #redeemTwice(code: string): Promise<void> {
    const request = verifyRequest({ userId: this.#user, code });
    const answers = await Promise.all([
      this.#send(this.#wire, request), this.#send(this.#other, request),
    ]);
    const known = answers.filter((answer) => answer !== null && answer.status !== 503);
    const right = known.filter((answer) => answer!.status === 200);
    const isOne = right.length === 1 || (right.length === 0 && known.length < 2);
    this.#hold(isOne, 'two at once', known[0] ?? null);
    for (const answer of known) {
      if (answer!.status === 200) this.#noteRedeemed(answer!);
      else this.#hold(isUsed(answer!), 'the second of two', answer!);
    }
    if (right.length === 1) await this.#expectUsed(code);
  }

  async #expectUsed(code: string): Promise<void> {
    const answer = await this.#settle(verifyRequest({ userId: this.#user, code }));
    this.#hold(answer === null || isUsed(answer), 'a used code', answer);
  }

  #noteIssued(answer: Answer, left: number): void {
    const otpId = issuedId(answer, left);
    this.#hold(otpId !== null, `a code, ${left} left`, answer);
    if (otpId !== null) this.#place.tally.issued.push(otpId);
  }

  #noteRedeemed(answer: Answer): void {
    this.#hold(isRedeemed(answer), 'the right code', answer);
    this.#place.tally.redeemed.push(this.#user);
  }

  #hold(isRight: boolean, what: string, answer: Answer | null): void {
    const text = answer === null ? 'no answer' : `${answer.status} ${answer.body}`;
    if (!isRight) this.#place.tally.noteWrong(`${what}: ${text}`);
  }
}

function happens(percent: number): boolean {
  return randomInt(100) < percent;
}
