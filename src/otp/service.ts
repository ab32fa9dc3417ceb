/**
 * The operations as the HTTP layer sees them: one request in, one outcome out. What arrives
 * while a transaction is under way goes into the next one, together.
 */
import { Collector } from './batcher.ts';
import type { LaneOptions } from './batcher.ts';
import { cancelCodes } from './cancel.ts';
import type { Hex } from '../db/query.ts';
import type {
  CancelOutcome, IssueInput, IssueOutcome, StatusOutcome, VerifyInput, VerifyOutcome,
} from './outcomes.ts';
import type { LimitName, Policies } from './policy/policy.ts';
import { issueCodes } from './request/request.ts';
import type { IssueParts } from './request/request.ts';
import { KeyReading, RefusedLately, screenRequests } from './request/screen.ts';
import { countedDestination } from './rules/extra-limits.ts';
import { tellStatuses } from './status.ts';
import { redeemCodes } from './verify/verify.ts';

/** Whether anybody still waits for an outcome; asked before any work is done. */
export type IsWanted = () => boolean;

/** The operations. All but the last throw `Unavailable` when the database cannot answer. */
export type OtpService = Readonly<{
  issue: (input: IssueInput, isWanted: IsWanted) => Promise<IssueOutcome>;
  verify: (input: VerifyInput, isWanted: IsWanted) => Promise<VerifyOutcome>;
  status: (otpId: Hex, isWanted: IsWanted) => Promise<StatusOutcome>;
  cancel: (otpId: Hex, isWanted: IsWanted) => Promise<CancelOutcome>;
  /** What a user_id must be, when no channel can reach this one; else null. */
  unreachable: (userId: string) => string | null;
}>;

/** Lists must be large before lanes are many (see bench/README.md for the measurements). */
const LANES: LaneOptions = Object.freeze({
  lanesMax: 3,
  batchMax: 128,
  backlogPerLane: 20,
  waitingMax: 4096,
});

/** While codes are being issued, refusals are answered at leisure: a flood must not crowd in. */
const REFUSAL_PAUSE_MS = 160;

/** A few refusals are no flood: the pause grows with their number. */
const PAUSE_MS_PER_REFUSAL = 4;

/** Limits that many users share; the others are a user's own. */
const WIDEST_FIRST: readonly LimitName[] = ['destination', 'address'];

/** Two, so that Node.js has one list at hand while the database has the other. */
const REFUSAL_LANES = 2;

/** Codes come in lists, and between two of them nothing is under way: that is no calm yet. */
const LISTS_TO_REST = 4;

/** One list of refusals costs four reads, whatever its length. */
const REFUSALS_MAX = 512;

/** What the service needs. */
type ServiceParts = Omit<IssueParts, 'keyReading'>;

/** Makes the service out of its parts. */
export function createOtpService(parts: ServiceParts, lanes: LaneOptions = LANES): OtpService {
  const verify = new Collector<VerifyInput, VerifyOutcome>({
    ...lanes,
    run: (inputs) => redeemCodes(parts, inputs),
    meter: parts.counts?.queues.verify,
    subjectsOf: (input) => subjectsOfAttempt(parts.policies, input),
  });
  const { delivery } = parts;
  const byId = { ...lanes, subjectsOf: (otpId: Hex) => [otpId] };
  const status = new Collector<Hex, StatusOutcome>({
    ...byId, run: (otpIds) => tellStatuses(parts, otpIds), meter: parts.counts?.queues.status,
  });
  const cancel = new Collector<Hex, CancelOutcome>({
    ...byId, run: (otpIds) => cancelCodes(parts, otpIds), meter: parts.counts?.queues.cancel,
  });
  return Object.freeze({
    issue: createIssue(parts, lanes),
    verify: (input: VerifyInput, isWanted: IsWanted) => verify.submit(input, isWanted),
    status: (otpId: Hex, isWanted: IsWanted) => status.submit(otpId, isWanted),
    cancel: (otpId: Hex, isWanted: IsWanted) => cancel.submit(otpId, isWanted),
    unreachable: delivery.unreachable,
  });
}

/** Requests of those who were refused lately are screened first, which locks and writes nothing. */
function createIssue(parts: ServiceParts, lanes: LaneOptions): OtpService['issue'] {
  const refused = new RefusedLately();
  const issueParts = { ...parts, keyReading: new KeyReading() };
  let listsToRest = 0;
  const issue = new Collector<IssueInput, IssueOutcome>({
    ...lanes,
    run: (inputs) => issueCodes(issueParts, inputs),
    meter: parts.counts?.queues.issue,
    subjectsOf: (input) => subjectsOf(parts.policies, input),
  });
  const screen = new Collector<IssueInput, IssueOutcome | null>({
    ...lanes,
    lanesMax: REFUSAL_LANES,
    batchMax: REFUSALS_MAX,
    run: (inputs) => screenRequests(parts, inputs),
    meter: parts.counts?.queues.screen,
    subjectsOf: () => [],
    pauseMs: (size) => {
      listsToRest = Math.max(0, issue.isBusy ? LISTS_TO_REST : listsToRest - 1);
      return listsToRest > 0 ? Math.min(REFUSAL_PAUSE_MS, size * PAUSE_MS_PER_REFUSAL) : 0;
    },
  });
  const decide = async (input: IssueInput, isWanted: IsWanted): Promise<IssueOutcome> => {
    const outcome = await issue.submit(input, isWanted);
    if (outcome.kind !== 'locked' && outcome.kind !== 'limited') return outcome;
    const subjects = subjectsOf(parts.policies, input);
    refused.add(outcome.kind === 'locked' ? subjects[0]! : widestOf(outcome.limitedBy, subjects));
    return outcome;
  };
  return async (input, isWanted) => {
    if (refused.isEmpty) return decide(input, isWanted);
    const subjects = subjectsOf(parts.policies, input);
    if (!refused.hasAny(subjects)) return decide(input, isWanted);
    const outcome = await screen.submit(input, isWanted);
    if (outcome !== null) return outcome;
    refused.forget(subjects);
    return decide(input, isWanted);
  };
}

/** The user first, then the address and the destination, if they are counted. */
function subjectsOf(policies: Policies, { userId, purpose, address }: IssueInput): string[] {
  const subjects = [`user ${userId}`];
  if (address !== null) subjects.push(`address ${address}`);
  const destination = countedDestination(policies.for(purpose), userId);
  if (destination !== null) subjects.push(`destination ${destination}`);
  return subjects;
}

/** Of those whose limits refuse, the one that most others share. */
function widestOf(limits: readonly LimitName[], subjects: readonly string[]): string {
  const widest = WIDEST_FIRST.find((limit) => limits.includes(limit));
  return subjects.find((subject) => subject.startsWith(`${widest} `)) ?? subjects[0]!;
}

/** The user, then the address if wrong codes from it are counted. */
function subjectsOfAttempt(policies: Policies, input: VerifyInput): string[] {
  const { userId, purpose, address } = input;
  const isCounted = address !== null && policies.for(purpose).wrongCodesLimit !== null;
  return isCounted ? [userId, `address ${address}`] : [userId];
}
