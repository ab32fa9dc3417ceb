/**
 * The operations as the HTTP layer sees them: one request in, one outcome out. What arrives
 * while a transaction is under way goes into the next one, together.
 */
import { Batcher } from './batcher.ts';
import type { BatchLimits } from './batcher.ts';
import { cancelOtps } from './cancel.ts';
import type { Hex } from '../db/query.ts';
import type {
  CancelOutcome, OtpRequest, RequestOutcome, StatusOutcome, OtpVerification, VerifyOutcome,
} from './outcomes.ts';
import type { LimitName, Policies } from './policy/policy.ts';
import { requestOtps } from './request/request.ts';
import type { RequestDeps } from './request/request.ts';
import { KeyReading, RefusedLately, screenRequests } from './request/screen.ts';
import { limitedDestination } from './rules/extra-limits.ts';
import { readStatuses } from './status.ts';
import { verifyOtps } from './verify/verify.ts';

/** Whether anybody still waits for an outcome; asked before any work is done. */
export type IsConnected = () => boolean;

/** The operations. All but the last throw `Unavailable` when the database cannot answer. */
export type OtpService = Readonly<{
  request: (input: OtpRequest, isConnected: IsConnected) => Promise<RequestOutcome>;
  verify: (input: OtpVerification, isConnected: IsConnected) => Promise<VerifyOutcome>;
  status: (otpId: Hex, isConnected: IsConnected) => Promise<StatusOutcome>;
  cancel: (otpId: Hex, isConnected: IsConnected) => Promise<CancelOutcome>;
  /** What a user_id must be, when no channel can reach this one; else null. */
  unreachable: (userId: string) => string | null;
}>;

/** Lists must be large before limits are many (see bench/README.md for the measurements). */
const BATCH_LIMITS: BatchLimits = Object.freeze({
  concurrencyMax: 3,
  batchMax: 128,
  backlogPerBatch: 20,
  waitingMax: 4096,
});

/** While codes are being issued, refusals are answered at leisure: a flood must not crowd in. */
const REFUSAL_PAUSE_MS = 160;

/** A few refusals are no flood: the pause grows with their number. */
const PAUSE_MS_PER_REFUSAL = 4;

/** Limits that many users share; the others are a user's own. */
const WIDEST_FIRST: readonly LimitName[] = ['destination', 'address'];

/** Two, so that Node.js has one list at hand while the database has the other. */
const REFUSAL_CONCURRENCY = 2;

/** Codes come in lists, and between two of them nothing is under way: that is no calm yet. */
const IDLE_CHECKS = 4;

/** One list of refusals costs four reads, whatever its length. */
const REFUSAL_BATCH_MAX = 512;

/** What the service needs. */
type ServiceDeps = Omit<RequestDeps, 'keyReading'>;

/** Makes the service out of its parts. */
export function createOtpService(
  parts: ServiceDeps,
  limits: BatchLimits = BATCH_LIMITS,
): OtpService {
  const verify = new Batcher<OtpVerification, VerifyOutcome>({
    ...limits,
    run: (inputs) => verifyOtps(parts, inputs),
    meter: parts.counts?.queues.verify,
    lockKeysOf: (input) => lockKeysOfVerification(parts.policies, input),
  });
  const { delivery } = parts;
  const byId = { ...limits, lockKeysOf: (otpId: Hex) => [otpId] };
  const status = new Batcher<Hex, StatusOutcome>({
    ...byId, run: (otpIds) => readStatuses(parts, otpIds), meter: parts.counts?.queues.status,
  });
  const cancel = new Batcher<Hex, CancelOutcome>({
    ...byId, run: (otpIds) => cancelOtps(parts, otpIds), meter: parts.counts?.queues.cancel,
  });
  return Object.freeze({
    request: createRequest(parts, limits),
    verify: (input: OtpVerification, isConnected: IsConnected) => verify.submit(input, isConnected),
    status: (otpId: Hex, isConnected: IsConnected) => status.submit(otpId, isConnected),
    cancel: (otpId: Hex, isConnected: IsConnected) => cancel.submit(otpId, isConnected),
    unreachable: delivery.unreachable,
  });
}

/** Requests of those who were refused lately are screened first, which locks and writes nothing. */
function createRequest(parts: ServiceDeps, limits: BatchLimits): OtpService['request'] {
  const refused = new RefusedLately();
  const requestDeps = { ...parts, keyReading: new KeyReading() };
  let idleChecks = 0;
  const request = new Batcher<OtpRequest, RequestOutcome>({
    ...limits,
    run: (inputs) => requestOtps(requestDeps, inputs),
    meter: parts.counts?.queues.issue,
    lockKeysOf: (input) => lockKeysOfRequest(parts.policies, input),
  });
  const screen = new Batcher<OtpRequest, RequestOutcome | null>({
    ...limits,
    concurrencyMax: REFUSAL_CONCURRENCY,
    batchMax: REFUSAL_BATCH_MAX,
    run: (inputs) => screenRequests(parts, inputs),
    meter: parts.counts?.queues.screen,
    lockKeysOf: () => [],
    pauseMs: (size) => {
      idleChecks = Math.max(0, request.isBusy ? IDLE_CHECKS : idleChecks - 1);
      return idleChecks > 0 ? Math.min(REFUSAL_PAUSE_MS, size * PAUSE_MS_PER_REFUSAL) : 0;
    },
  });
  const decide = async (input: OtpRequest, isConnected: IsConnected): Promise<RequestOutcome> => {
    const outcome = await request.submit(input, isConnected);
    if (outcome.kind !== 'locked' && outcome.kind !== 'limited') return outcome;
    const lockKeys = lockKeysOfRequest(parts.policies, input);
    refused.add(outcome.kind === 'locked' ? lockKeys[0]! : widestOf(outcome.limitedBy, lockKeys));
    return outcome;
  };
  return async (input, isConnected) => {
    if (refused.isEmpty) return decide(input, isConnected);
    const lockKeys = lockKeysOfRequest(parts.policies, input);
    if (!refused.hasAny(lockKeys)) return decide(input, isConnected);
    const outcome = await screen.submit(input, isConnected);
    if (outcome !== null) return outcome;
    refused.forget(lockKeys);
    return decide(input, isConnected);
  };
}

/** The user first, then the address and the destination, if they are counted. */
function lockKeysOfRequest(
  policies: Policies,
  { userId, purpose, clientIp }: OtpRequest,
): string[] {
  const lockKeys = [`user ${userId}`];
  if (clientIp !== null) lockKeys.push(`address ${clientIp}`);
  const destination = limitedDestination(policies.for(purpose), userId);
  if (destination !== null) lockKeys.push(`destination ${destination}`);
  return lockKeys;
}

/** Of those whose limits refuse, the one that most others share. */
function widestOf(limits: readonly LimitName[], lockKeys: readonly string[]): string {
  const widest = WIDEST_FIRST.find((limit) => limits.includes(limit));
  return lockKeys.find((subject) => subject.startsWith(`${widest} `)) ?? lockKeys[0]!;
}

/** The user, then the address if wrong codes from it are counted. */
function lockKeysOfVerification(policies: Policies, input: OtpVerification): string[] {
  const { userId, purpose, clientIp } = input;
  const isCounted = clientIp !== null && policies.for(purpose).wrongCodesLimit !== null;
  return isCounted ? [userId, `address ${clientIp}`] : [userId];
}
