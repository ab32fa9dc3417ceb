/** POST /otp/request for a list of requests: load, decide, write, commit, send. */
import { nameRequest, RequestLedger } from './batch.ts';
import type { NamedRequest } from './batch.ts';
import { groupBy } from '../batch/changed-rows.ts';
import type { ChannelName } from '../channels/channel.ts';
import { drawOtpIds } from '../crypto/otp-id.ts';
import { drawBundleId, drawCode } from '../crypto/random.ts';
import { digestCode } from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { elapsedMs, RunningClock } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { SessionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import type { Sweep, Sweeper } from '../../db/sweep/sweeper.ts';
import { BUNDLE_MESSAGES_MAX, eraseBundles, putBundles } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideRequest } from './decide.ts';
import type { Delivery } from '../delivery/delivery.ts';
import { Bundle, LEASE_SECONDS } from '../delivery/outbox-batch.ts';
import type { Outgoing } from '../delivery/outbox-batch.ts';
import type { OtpCounts } from '../metrics.ts';
import type { IssueInput, IssueOutcome } from '../outcomes.ts';
import type { Policies } from '../policy/policy.ts';
import type { KeyReading } from './screen.ts';

/** What issuing codes needs. */
export type IssueParts = Readonly<{
  keyReading: KeyReading;
  pool: SessionPool;
  policies: Policies;
  secrets: Secrets;
  sweeper: Sweeper;
  delivery: Delivery;
  counts?: OtpCounts;
}>;

/** A request with all that is drawn or derived before the transaction, which may run again. */
type Member = NamedRequest &
  Readonly<{
    otpId: Hex;
    keyId: string;
    code: string;
    digest: Hex;
    bundleId: Hex;
    bundleNumber: number;
    channel: ChannelName;
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
  const members = drawMembers(parts, inputs);
  const { outcomes, bundles, sweep } = await decideAndErase(parts, members);
  sweep?.noteCommitted();
  parts.counts?.noteRequests(outcomes);
  // The answers go first: sending is work of its own.
  if (bundles.length > 0) setImmediate(() => parts.delivery.dispatch(bundles));
  return outcomes;
}

/** Draws in the order in which the rows are written, so that each comes after the one before. */
function drawMembers(parts: IssueParts, inputs: readonly IssueInput[]): Member[] {
  const members = new Array<Member>(inputs.length);
  const order = inputs.map((_, index) => index)
    .sort((a, b) => (inputs[a]!.userId < inputs[b]!.userId ? -1 : 1));
  for (let start = 0; start < order.length; start += BUNDLE_MESSAGES_MAX) {
    const ofOneBundle = order.slice(start, start + BUNDLE_MESSAGES_MAX);
    const bundleId = drawBundleId();
    const otpIds = drawOtpIds(parts.secrets.current, bundleId, ofOneBundle.length);
    ofOneBundle.forEach((index, bundleNumber) => {
      const name = { bundleId, bundleNumber, otpId: otpIds[bundleNumber]! };
      members[index] = drawMember(parts, inputs[index]!, name);
    });
  }
  return members;
}

type DrawnName = Pick<Member, 'bundleId' | 'bundleNumber' | 'otpId'>;

function drawMember(
  parts: IssueParts,
  input: IssueInput,
  { bundleId, bundleNumber, otpId }: DrawnName,
): Member {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, address, policy, keyDigest, counted, acceptLanguage }
    = nameRequest(parts.policies, input);
  const { current } = parts.secrets;
  const code = drawCode(policy.codeDigits);
  const digest = digestCode(current, otpId, userId, purpose, code);
  const channel = parts.delivery.channelFor(userId);
  return {
    userId, purpose, address, policy, keyDigest, counted, acceptLanguage,
    otpId, keyId: current.id, code, digest, bundleId, bundleNumber, channel,
  };
}

/** The commit of the codes takes along what the outbox has no more use for. */
async function decideAndErase(parts: IssueParts, members: readonly Member[]): Promise<Decided> {
  const erasure = parts.delivery.takeErasure(members.length);
  let isErased = false;
  let runs = 0;
  try {
    const decided = await transaction(parts.pool, async (tx) => {
      // What made it run again may be that a key was not new.
      runs += 1;
      if (runs > 1) parts.keyReading.noteNeed();
      const each = await decideAll(tx, members, parts);
      if (erasure !== null && !tx.hasNothingToKeep) tx.writes.push(eraseBundles(erasure.bundleIds));
      return each;
    });
    isErased = decided.bundles.length > 0;
    return decided;
  } finally {
    erasure?.end(isErased);
  }
}

type Decided = Readonly<{ outcomes: IssueOutcome[]; bundles: Bundle[]; sweep: Sweep | null }>;

async function decideAll(
  tx: Transaction,
  members: readonly Member[],
  { sweeper, secrets, delivery, keyReading }: IssueParts,
): Promise<Decided> {
  const sweep = sweeper.next(members.length, members[0]!);
  let askedAtMs = elapsedMs();
  const readsKeys = keyReading.next();
  let ledger = await RequestLedger.load(tx, members, { readsKeys, sweep });
  let { outcomes, issued } = decideEach(ledger, members);
  if (!readsKeys && issued.length < members.length) {
    // Before a refusal comes what is stored under the key: a replay, or a key used otherwise.
    keyReading.noteNeed();
    askedAtMs = elapsedMs();
    ledger = await RequestLedger.load(tx, members, { readsKeys: true, sweep: null });
    ({ outcomes, issued } = decideEach(ledger, members));
  }
  if (issued.length === 0) {
    tx.hasNothingToKeep = true;
    return { outcomes, bundles: [], sweep: null };
  }
  const leasedUntil = addSeconds(ledger.now, LEASE_SECONDS);
  const lease = { clock: new RunningClock(ledger.now, askedAtMs), leasedUntil };
  const bundles = [...groupBy(issued, ({ bundleId }) => bundleId)].map(([bundleId, list]) =>
    new Bundle(bundleId, list.map((one) => outgoing(one, ledger.now, delivery)), lease));
  ledger.store(tx);
  const sealed = bundles.map((bundle) => bundle.seal(secrets.current));
  tx.writes.push(putBundles(sealed, { owner: delivery.owner, leasedUntil }));
  await sweep?.removeDead(tx);
  return { outcomes, bundles, sweep };
}

/** Decides in the order of arrival, each on what the ones before have left. */
function decideEach(
  ledger: RequestLedger,
  members: readonly Member[],
): { outcomes: IssueOutcome[]; issued: Member[] } {
  const issued: Member[] = [];
  const outcomes = members.map((member) => {
    const { outcome, writes } = decideRequest(ledger.stateOf(member), member, member.policy);
    if (writes !== null) {
      ledger.apply(member, writes);
      issued.push(member);
    }
    return outcome;
  });
  return { outcomes, issued };
}

function outgoing(member: Member, now: Instant, { localeFor }: Delivery): Outgoing {
  const { otpId, userId, purpose, code, policy, address, channel, acceptLanguage } = member;
  const { lifetimeSeconds } = policy;
  const expiresAt = addSeconds(now, lifetimeSeconds);
  const locale = localeFor(purpose, acceptLanguage);
  return {
    message: { otpId, userId, purpose, code, lifetimeSeconds, expiresAt, locale },
    address,
    planned: channel,
  };
}
