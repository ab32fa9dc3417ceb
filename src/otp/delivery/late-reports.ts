/**
 * What a provider reports after it has accepted a message: if the message has failed, the next
 * channel sends it, or the OTP is closed. The URL of the report contains the sealed message. The
 * alternative, a row that stays until the provider has reported, would cost each message a
 * statement, and keep its code in the database for as long.
 */
import { addressOf, inOrder } from '../channels/channel.ts';
import type { Channel, ChannelName } from '../channels/channel.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { OtpRows } from '../batch/otps.ts';
import { Batcher } from '../batcher.ts';
import { openReport, sealReport } from '../crypto/sealed-messages.ts';
import type { Sealable } from '../crypto/sealed-messages.ts';
import type { Secret, Secrets } from '../crypto/secrets.ts';
import { EstimatedClock, monotonicMs, READ_CLOCK } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import { byKey, mapResult } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { DeliveryFailure, Otp } from '../../db/tables/otps.ts';
import { findUnsent, insertBatches, resendId } from '../../db/tables/outbox.ts';
import type { SealedBatch } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './events.ts';
import { LEASE_SECONDS, OutboxBatch } from './outbox-batch.ts';
import type { OutboxMessage } from './outbox-batch.ts';
import { BATCH_LIMITS, closeFailed, lockIpLimits, lockUsers, noteFailures } from './outbox.ts';
import type { ReportOutcome } from '../outcomes.ts';
import type { Policies } from '../policy/policy.ts';
import { isOpen } from '../rules/lifecycle.ts';

/** The parts of the path of a report, and its body. Only what the seal proves is trusted. */
export type SentReport = Readonly<{ otpId: Hex; keyId: string; sealed: string; body: string }>;

/** Every report URL ends with the three parts of a SentReport. */
export function reportPathOf(secret: Secret, sealable: Sealable): string {
  return `/sms/status/${sealable.message.otpId}/${secret.id}/${sealReport(secret, sealable)}`;
}

type ReportDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  /** The id of this process in the outbox. */
  owner: Hex;
  channels: readonly Channel[];
  onEvent: OnDeliveryEvent;
  counts: DeliveryCounts;
  /** Sends the messages of a batch that has been stored. */
  dispatch: (batch: OutboxBatch) => void;
}>;

/** A message whose provider has accepted it and reports that it has failed. */
type FailedMessage = OutboxMessage & Readonly<{
  failure: DeliveryFailure & Readonly<{ channel: ChannelName }>;
  /** The channel to try; null when none is left. */
  next: ChannelName | null;
}>;

/**
 * - `resent`: the next channel sends the message.
 * - `closed`: no channel is left; the OTP is closed.
 * - `ignored`: the OTP can no longer be redeemed, or an earlier report was the same.
 */
type Handled = Readonly<{ kind: 'resent'; batch: OutboxBatch }>
  | Readonly<{ kind: 'closed' | 'ignored' }>;

const IGNORED: Handled = Object.freeze({ kind: 'ignored' });

export class LateReports {
  readonly #deps: ReportDeps;
  readonly #failures: Batcher<FailedMessage, Handled>;

  constructor(deps: ReportDeps) {
    this.#deps = deps;
    this.#failures = new Batcher({
      ...BATCH_LIMITS,
      run: (list, answerByMs) => this.#handleAll(list, answerByMs),
    });
  }

  /** @throws Unavailable when the database does not answer */
  async take(
    { otpId, keyId, sealed, body }: SentReport,
    isConnected: () => boolean,
    answerByMs?: number,
  ): Promise<ReportOutcome> {
    const { secrets, channels } = this.#deps;
    const secret = secrets.byId.get(keyId);
    const sealable = secret === undefined ? null : openReport(secret, otpId, sealed);
    const channel = channels.find(({ readReport }) => readReport !== undefined);
    if (sealable === null || channel?.readReport === undefined) return { kind: 'unknown' };
    const report = channel.readReport(body);
    if (report.kind === 'malformed') return { kind: 'malformed' };
    if (report.kind === 'failed') {
      const { name } = channel;
      const failed = this.#toFailed(sealable, { channel: name, reason: report.reason });
      this.#onHandled(failed, await this.#failures.submit(failed, isConnected, answerByMs));
    }
    return { kind: 'noted' };
  }

  #toFailed(sealable: Sealable, failure: FailedMessage['failure']): FailedMessage {
    const { message } = sealable;
    const next = inOrder(this.#deps.channels, message).find(({ readReport, accepts }) =>
      readReport === undefined && accepts(addressOf(message)))?.name ?? null;
    return { ...sealable, failure, next, plannedChannel: next ?? '' };
  }

  #onHandled({ message: { otpId, userId }, failure }: FailedMessage, handled: Handled): void {
    if (handled.kind === 'ignored') return;
    const { onEvent, counts, dispatch } = this.#deps;
    counts.channels.get(failure.channel)!.undelivered += 1;
    onEvent({ event: 'delivery_undelivered', otpId, userId, ...failure });
    if (handled.kind === 'resent') return dispatch(handled.batch);
    counts.failed.refused += 1;
    onEvent({ event: 'delivery_failed', otpId, userId, reason: 'refused' });
  }

  #handleAll(list: readonly FailedMessage[], answerByMs: number): Promise<Handled[]> {
    return transaction(this.#deps.pool, async (tx) => {
      const otps = new OtpRows(await lockUsers(tx, list.map(({ message }) => message.userId)));
      const ipLimits = new IpLimitRows(await lockIpLimits(tx, list));
      const found = list.map(({ message: { userId, otpId } }) => otps.find(userId, otpId));
      const batchIds = ['', ...found.flatMap((otp) => (otp === null ? [] : [otp.batchId]))];
      const askedAtMs = monotonicMs();
      const [now, unsent, resent] = await tx.read(READ_CLOCK, findUnsent(batchIds),
        findUnsent(list.map(({ message: { otpId } }) => resendId(otpId))));
      const state = { now, askedAtMs, otps, ipLimits, unsent, resent: new Set(resent) };
      const handled = new Map(list.filter((failed) => isNews(failed, state))
        .map((failed) => [failed, this.#decide(failed, state)] as const));
      this.#flush(tx, handled, state);
      return list.map((failed) => handled.get(failed) ?? IGNORED);
    }, { answerByMs });
  }

  #decide(failed: FailedMessage, state: ReportState): Handled {
    const { message: { userId, otpId }, subjects, next } = failed;
    const { now, askedAtMs, otps } = state;
    const otp = otps.find(userId, otpId) as Otp;
    if (otp.expiresAt <= now) return IGNORED;
    if (next === null) {
      closeFailed(otp, subjects, state, this.#deps.policies);
      return { kind: 'closed' };
    }
    otps.put({ ...otp, channel: next });
    const leasedUntil = addSeconds(now, LEASE_SECONDS);
    const lease = { clock: new EstimatedClock(now, askedAtMs), leasedUntil };
    return { kind: 'resent', batch: new OutboxBatch(resendId(otpId), [failed], lease) };
  }

  /** The failure of an OTP that has expired is kept as well: an operator may ask for it. */
  #flush(
    tx: Transaction,
    handled: ReadonlyMap<FailedMessage, Handled>,
    { now, otps, ipLimits }: ReportState,
  ): void {
    if (handled.size === 0) return tx.readOnly();
    const [first] = otps.changed;
    if (first !== undefined) tx.commitProbe(isStored(first));
    otps.flush(tx);
    noteFailures(tx, [...handled.keys()].map(({ message: { userId, otpId }, failure }) =>
      ({ otp: otps.find(userId, otpId) as Otp, failure })));
    ipLimits.flush(tx);
    const { secrets, owner } = this.#deps;
    const sealed = [...handled.values()].flatMap((one) =>
      (one.kind === 'resent' ? [one.batch.seal(secrets.current)] : []));
    const lease = { owner, leasedUntil: addSeconds(now, LEASE_SECONDS) };
    if (sealed.length > 0) tx.writes.push(insertBatches(sealed.sort(byId), lease));
  }
}

/**
 * Whether nothing has happened to the OTP since the provider accepted its message. The row may not
 * name the channel yet while the message is in the outbox.
 */
function isNews({ message: { userId, otpId }, failure }: FailedMessage, state: ReportState) {
  const { otps, unsent, resent } = state;
  const otp = otps.find(userId, otpId);
  if (otp === null || resent.has(otpId) || !isOpen(otp, otps.of(userId))) return false;
  const result = otp.channel === failure.channel || unsent.has(otpId);
  // The same report may be twice in a batch.
  if (result) resent.add(otpId);
  return result;
}

const byId = byKey(({ batchId }: SealedBatch) => batchId);

/** Rows that are locked, and the OTPs with a message in the outbox. */
type ReportState = Readonly<{
  now: Instant;
  askedAtMs: number;
  otps: OtpRows;
  ipLimits: IpLimitRows;
  unsent: ReadonlySet<Hex>;
  /** Those that a report has sent to the next channel. */
  resent: Set<Hex>;
}>;

/** Commit probe: whether the OTP names the next channel, or was closed. */
function isStored({ userId, otpId, channel, closeReason }: Otp): Query<boolean> {
  return mapResult(lockOtps([userId]), (otps) => otps.some((otp) =>
    otp.otpId === otpId && otp.channel === channel && otp.closeReason === closeReason));
}
