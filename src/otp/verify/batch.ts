/**
 * The state that a list of attempts shares inside one transaction: loaded once, changed by each
 * decision in the order of arrival, written once. A lone attempt is a list of one.
 */
import { byKey } from '../batch/changed-rows.ts';
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { OtpRows } from '../batch/otps.ts';
import { StoredResponses } from '../batch/stored-responses.ts';
import { isVerifyStored } from './commit-probe.ts';
import { READ_CLOCK } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex, Query } from '../../db/query.ts';
import {
  deleteExpiredVerifications, loadStoredVerifications, storeVerifications,
} from '../../db/tables/idempotency-keys.ts';
import type { StoredVerification } from '../../db/tables/idempotency-keys.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp, PairName } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { VerifyState, VerifyWrites } from './decide.ts';
import type { AppliedLimit } from '../rules/extra-limits.ts';
import { knownPair } from '../rules/lifecycle.ts';

/** What the ledger needs to know of an attempt. */
type VerifyMember = PairName & Readonly<{
  keyDigest: Hex | null;
  /** What a wrong code counts for. */
  appliedLimits: readonly AppliedLimit[];
}>;

/** The state of a list of attempts. */
export class VerifyBatch {
  readonly #now: Instant;
  readonly #answers: StoredResponses<StoredVerification>;
  /** Those of the attempts. */
  readonly #added: StoredVerification[] = [];
  readonly #otps: OtpRows;
  readonly #tallies: ExtraLimitRows;

  private constructor(
    now: Instant,
    answers: readonly StoredVerification[],
    otps: readonly Otp[],
    tallies: ExtraLimitRows,
  ) {
    this.#now = now;
    this.#answers = new StoredResponses(answers);
    this.#otps = new OtpRows(otps);
    this.#tallies = tallies;
  }

  /**
   * Locks the codes of users, then what is counted of addresses, and reads the rest, the clock
   * included, once they are held.
   */
  static async load(tx: Transaction, members: readonly VerifyMember[]): Promise<VerifyBatch> {
    const users = new Set(members.map(({ userId }) => userId));
    const keys = new Set<Hex>();
    for (const { keyDigest } of members) if (keyDigest !== null) keys.add(keyDigest);
    const tallies = ExtraLimitRows.for(members);
    const { otps, now, answers } = await ask(tx, {
      lock: lockOtps([...users]), reads: [READ_CLOCK, loadStoredVerifications([...keys])],
    }, tallies);
    return new VerifyBatch(now, answers, otps, tallies);
  }

  /** What a member's decision rests on, as the members before it have left it. */
  stateFor({ userId, purpose, keyDigest, appliedLimits }: VerifyMember): VerifyState {
    return {
      now: this.#now,
      answer: keyDigest === null ? null : this.#answers.find(keyDigest),
      pair: knownPair(this.#otps.of(userId), purpose, this.#now),
      hitWindows: this.#tallies.of(appliedLimits),
    };
  }

  /** Takes a member's writes into the state. */
  apply({ appliedLimits }: VerifyMember, { pair, answer, isWrong }: VerifyWrites): void {
    this.#otps.put(pair);
    if (isWrong) this.#tallies.add(appliedLimits, this.#now);
    if (answer === null) return;
    this.#answers.add(answer);
    this.#added.push(answer);
  }

  /** Writes what changed, each row once; says how to prove it. */
  flush(tx: Transaction): void {
    const { changed } = this.#otps;
    if (changed.length === 0) {
      tx.hasNothingToKeep = true;
      return;
    }
    tx.wasCommitted = isVerifyStored(changed);
    this.#tallies.erase(tx);
    this.#otps.flushAttempts(tx);
    this.#tallies.flush(tx);
    const { staleKeys } = this.#answers;
    // Sorted, so that transactions never wait for each other in a ring.
    const added = this.#added.sort(byKey(({ keyDigest }) => keyDigest));
    if (staleKeys.length > 0) tx.writes.push(deleteExpiredVerifications(staleKeys));
    if (added.length > 0) tx.writes.push(storeVerifications(added));
  }
}

type Statements = Readonly<{
  lock: Query<Otp[]>;
  reads: readonly [Query<Instant>, Query<StoredVerification[]>];
}>;

/** What is counted of addresses is locked last, and asked for only where there is any. */
async function ask(tx: Transaction, { lock, reads }: Statements, tallies: ExtraLimitRows) {
  if (tallies.isEmpty) {
    const [otps, now, answers] = await tx.read(lock, ...reads);
    return { otps, now, answers };
  }
  const [otps, , , now, answers] = await tx.read(lock, tallies.lock, tallies.uses, ...reads);
  return { otps, now, answers };
}
