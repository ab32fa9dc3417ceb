/** POST /otp/request for a list of requests: load, decide, write, commit, send. */
import type { Hex } from '../db/hex.ts';
import { addSeconds } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { SealedMessage } from '../db/outbox.ts';
import type { SessionPool } from '../db/pool.ts';
import { elapsedMs, RunningClock } from '../db/running-clock.ts';
import type { Sweeper } from '../db/sweep.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import type { ChannelName } from './channel.ts';
import { decideRequest } from './decide-request.ts';
import type { Delivery, IssuedMessage } from './delivery/delivery.ts';
import { LEASE_SECONDS } from './delivery/parcel.ts';
import type { ParcelLease } from './delivery/parcel.ts';
import { drawCode, drawId } from './draw.ts';
import { nameRequest } from './named-request.ts';
import type { NamedRequest } from './named-request.ts';
import type { IssueInput, IssueOutcome } from './outcome.ts';
import type { Policies } from './policy.ts';
import { RequestLedger } from './request-ledger.ts';
import { sealMessage } from './seal.ts';
import { digestCode } from './secrets.ts';
import type { Secrets } from './secrets.ts';

/** What issuing codes needs. */
export type IssueParts = Readonly<{
  pool: SessionPool;
  policies: Policies;
  secrets: Secrets;
  sweeper: Sweeper;
  delivery: Delivery;
}>;

/** A request with all that is drawn or derived before the transaction, which may run again. */
type Member = NamedRequest &
  Readonly<{
    otpId: Hex;
    keyId: string;
    code: string;
    digest: Hex;
    channel: ChannelName;
    locale: string;
    sealed: Hex;
  }>;

/**
 * Issues codes to a list of requests in one transaction, in the order of the list, and hands the
 * messages over once it is committed.
 *
 * @returns one outcome for each request, in order
 * @throws Unavailable when the database cannot answer; then none of them took effect, or their
 *   outcome is unknown and each can be repeated with its key; a message that was stored is sent
 */
export async function issueCodes(
  parts: IssueParts,
  inputs: readonly IssueInput[],
): Promise<IssueOutcome[]> {
  const members = inputs.map((input) => drawMember(parts, input));
  const { outcomes, now, lease }
    = await transaction(parts.pool, (tx) => decideAll(tx, members, parts));
  // The answers go first: sending is work of its own.
  setImmediate(() => {
    const issued = members.filter((_, index) => isIssued(outcomes[index]!));
    parts.delivery.dispatch(issued.map((member) => messageOf(member, now)), lease);
  });
  return outcomes;
}

function isIssued(outcome: IssueOutcome): boolean {
  return outcome.kind === 'issued' && !outcome.replayed;
}

function drawMember(parts: IssueParts, input: IssueInput): Member {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, address, policy, keyDigest, fingerprint, acceptLanguage }
    = nameRequest(parts.policies, input);
  const { secrets: { current }, delivery } = parts;
  const otpId = drawId();
  const code = drawCode(policy.codeDigits);
  const digest = digestCode(current, otpId, userId, purpose, code);
  const locale = delivery.localeFor(purpose, acceptLanguage);
  const { lifetimeSeconds } = policy;
  const contents = { userId, purpose, code, lifetimeSeconds, locale, address };
  return {
    userId, purpose, address, policy, keyDigest, fingerprint, acceptLanguage,
    otpId, keyId: current.id, code, digest, locale,
    channel: delivery.channelFor(userId),
    sealed: sealMessage(current, otpId, contents),
  };
}

type Decided = Readonly<{ outcomes: IssueOutcome[]; now: Instant; lease: ParcelLease }>;

async function decideAll(
  tx: Transaction,
  members: readonly Member[],
  { sweeper, delivery: { owner } }: IssueParts,
): Promise<Decided> {
  const sweep = sweeper.next(members.length, members[0]!);
  const askedAtMs = elapsedMs();
  const ledger = await RequestLedger.load(tx, members, sweep);
  const outcomes = members.map((member) => {
    const { outcome, writes } = decideRequest(ledger.stateOf(member), member, member.policy);
    if (writes !== null) ledger.apply(member, writes, sealedOf(member, ledger.now));
    return outcome;
  });
  const leasedUntil = addSeconds(ledger.now, LEASE_SECONDS);
  if (ledger.isUnchanged) tx.hasNothingToKeep = true;
  else {
    ledger.store(tx, { owner, leasedUntil });
    await sweep?.removeDead(tx);
  }
  const clock = new RunningClock(ledger.now, askedAtMs);
  return { outcomes, now: ledger.now, lease: { clock, leasedUntil } };
}

function sealedOf({ otpId, keyId, sealed, policy }: Member, now: Instant): SealedMessage {
  return { otpId, keyId, sealed, expiresAt: addSeconds(now, policy.lifetimeSeconds) };
}

function messageOf(member: Member, now: Instant): IssuedMessage {
  const { otpId, userId, purpose, code, locale, policy, address, channel } = member;
  const { lifetimeSeconds } = policy;
  const expiresAt = addSeconds(now, lifetimeSeconds);
  return {
    message: { otpId, userId, purpose, code, lifetimeSeconds, expiresAt, locale },
    address,
    channel,
  };
}
