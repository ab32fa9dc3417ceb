/** POST /otp/request for a list of requests: load, decide, write, commit, send. */
import type { Hex } from '../db/hex.ts';
import type { SessionPool } from '../db/pool.ts';
import type { Sweeper } from '../db/sweep.ts';
import { transaction } from '../db/transaction.ts';
import type { Transaction } from '../db/transaction.ts';
import { decideRequest } from './decide-request.ts';
import { drawCode, drawId } from './draw.ts';
import type { Deliver } from './message.ts';
import { nameRequest } from './named-request.ts';
import type { NamedRequest } from './named-request.ts';
import type { IssueInput, IssueOutcome } from './outcome.ts';
import type { Policies } from './policy.ts';
import { RequestLedger } from './request-ledger.ts';
import { digestCode } from './secrets.ts';
import type { Secrets } from './secrets.ts';

/** What issuing codes needs. */
export type IssueParts = Readonly<{
  pool: SessionPool;
  policies: Policies;
  secrets: Secrets;
  sweeper: Sweeper;
  deliver: Deliver;
}>;

/** A request with all that is drawn or derived before the transaction, which may run again. */
type Member = NamedRequest &
  Readonly<{
    otpId: Hex;
    keyId: string;
    code: string;
    digest: Hex;
  }>;

/**
 * Issues codes to a list of requests in one transaction, in the order of the list, and hands the
 * messages over once it is committed.
 *
 * @returns one outcome for each request, in order
 * @throws Unavailable when the database cannot answer; then none of them took effect, or their
 *   outcome is unknown and each can be repeated with its key
 */
export async function issueCodes(
  parts: IssueParts,
  inputs: readonly IssueInput[],
): Promise<IssueOutcome[]> {
  const members = inputs.map((input) => drawMember(parts, input));
  const outcomes = await transaction(parts.pool, (tx) => decideAll(tx, members, parts.sweeper));
  outcomes.forEach((outcome, index) => {
    if (outcome.kind === 'issued' && !outcome.replayed) deliverCode(parts, members[index]!);
  });
  return outcomes;
}

function drawMember(parts: IssueParts, input: IssueInput): Member {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, address, policy, keyDigest, fingerprint }
    = nameRequest(parts.policies, input);
  const { current } = parts.secrets;
  const otpId = drawId();
  const code = drawCode(policy.codeDigits);
  const digest = digestCode(current, otpId, userId, purpose, code);
  return {
    userId, purpose, address, policy, keyDigest, fingerprint,
    otpId, keyId: current.id, code, digest,
  };
}

async function decideAll(
  tx: Transaction,
  members: readonly Member[],
  sweeper: Sweeper,
): Promise<IssueOutcome[]> {
  const sweep = sweeper.next(members.length, members[0]!);
  const ledger = await RequestLedger.load(tx, members, sweep);
  const outcomes = members.map((member) => {
    const { outcome, writes } = decideRequest(ledger.stateOf(member), member, member.policy);
    if (writes !== null) ledger.apply(member, writes);
    return outcome;
  });
  if (ledger.isUnchanged) tx.hasNothingToKeep = true;
  else {
    ledger.store(tx);
    await sweep?.removeDead(tx);
  }
  return outcomes;
}

function deliverCode({ deliver }: IssueParts, member: Member): void {
  const { userId, purpose, code, policy, otpId } = member;
  const { lifetimeSeconds } = policy;
  deliver({ otpId, userId, purpose, code, lifetimeSeconds });
}
