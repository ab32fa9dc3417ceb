/** The requests that can be answered without a lock and without a write. */
import { READ_CLOCK } from '../db/clock.ts';
import { readSlots } from '../db/ip-rate-limits.ts';
import { glanceAtOtps } from '../db/otps.ts';
import type { SessionPool } from '../db/pool.ts';
import { mapAnswer } from '../db/query.ts';
import { loadRequestAnswers } from '../db/request-keys.ts';
import type { RequestAnswer } from '../db/request-keys.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import { AddressBook } from './address-book.ts';
import { AnswerBook } from './answer-book.ts';
import { answerWithoutIssuing } from './decide-request.ts';
import { namesOf, nameRequest, pointsNamedBy } from './named-request.ts';
import type { NamedRequest } from './named-request.ts';
import type { OtpCounts } from './otp-metrics.ts';
import type { IssueInput, IssueOutcome } from './outcome.ts';
import type { Policies } from './policy.ts';
import { groupBy } from './rows.ts';
import { TallyBook } from './tally-book.ts';

/** What it needs. */
export type ScreenParts = Readonly<{
  pool: SessionPool; policies: Policies; counts?: OtpCounts;
}>;

/**
 * Answers what can be answered without a lock and without a write: replays, reused keys, locks
 * and exhausted limits.
 *
 * @returns one outcome for each request, in order; null for one that must be decided under lock
 * @throws Unavailable when the database cannot answer
 */
export async function screenRequests(
  { pool, policies, counts }: ScreenParts,
  inputs: readonly IssueInput[],
): Promise<(IssueOutcome | null)[]> {
  const requests = inputs.map((input) => nameRequest(policies, input));
  const outcomes = await transaction(pool, (tx) => answerAll(tx, requests));
  counts?.noteRequests(outcomes);
  return outcomes;
}

/**
 * The clock is read first, and what was used after that time is left out, so that whoever is
 * refused is refused by codes of the last 15 minutes and no others. The keys are read last: a code
 * that refuses the repeat of its own request is found under its key, and replayed.
 */
async function answerAll(
  tx: Transaction,
  requests: readonly NamedRequest[],
): Promise<(IssueOutcome | null)[]> {
  const { users, addresses, keys } = namesOf(requests);
  const tallies = TallyBook.for(requests);
  let stored: readonly RequestAnswer[] = [];
  const loadKeys = mapAnswer(loadRequestAnswers(keys), (found) => { stored = found; });
  const [now, otps, slots] = await tx.askLast(
    READ_CLOCK, glanceAtOtps(users), readSlots(addresses),
    ...(tallies.isEmpty ? [] : [tallies.glance, tallies.uses]), loadKeys);
  const otpsOf = groupBy(otps.filter(({ createdAt }) => createdAt <= now), ({ userId }) => userId);
  const addressBook = new AddressBook(slots.filter(({ usedAt }) => usedAt <= now));
  const isAsked = await addressBook.loadOverflow(tx.askLast, now, now, pointsNamedBy(requests));
  if (isAsked) await tx.askLast(loadKeys);
  const answers = new AnswerBook(stored);
  return requests.map((request) => {
    const counted = tallies.of(request.counted);
    const own = otpsOf.get(request.userId) ?? [];
    // Neither numbers nor wrong codes can be taken back to the time of the clock.
    if (counted.some(({ tally }) => tally.newestAt > now)) return null;
    if (own.some(({ lastWrongAt }) => lastWrongAt !== null && lastWrongAt > now)) return null;
    return answerWithoutIssuing({
      now,
      answer: answers.find(request.keyDigest),
      otps: own,
      address: request.address === null ? null : addressBook.of(request.address),
      tallies: counted,
    }, request, request.policy);
  });
}
