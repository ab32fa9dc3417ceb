/**
 * The two operations as the HTTP layer sees them: one request in, one outcome out. What arrives
 * while a transaction is under way goes into the next one, together.
 */
import { Collector } from '../db/collector.ts';
import type { LaneOptions } from '../db/collector.ts';
import { issueCodes } from './issue-codes.ts';
import type { IssueParts } from './issue-codes.ts';
import { pairKey } from './map-keys.ts';
import type { IssueInput, IssueOutcome, VerifyInput, VerifyOutcome } from './outcome.ts';
import { redeemCodes } from './redeem-codes.ts';

/** Whether anybody still waits for an outcome; asked before any work is done. */
export type IsWanted = () => boolean;

/** Issues and redeems codes. Both throw `Unavailable` when the database cannot answer. */
export type OtpService = Readonly<{
  issue: (input: IssueInput, isWanted: IsWanted) => Promise<IssueOutcome>;
  verify: (input: VerifyInput, isWanted: IsWanted) => Promise<VerifyOutcome>;
}>;

/**
 * Lists must be large before lanes are many: a list costs a commit and some twenty statements'
 * worth of work whatever its length, and two cores are busy with two lanes (bench/README.md).
 */
const LANES: LaneOptions = Object.freeze({
  lanesMax: 2,
  batchMax: 128,
  backlogPerLane: 32,
  waitingMax: 4096,
});

/** Makes the service out of its parts. */
export function createOtpService(parts: IssueParts, lanes: LaneOptions = LANES): OtpService {
  const issue = new Collector<IssueInput, IssueOutcome>({
    ...lanes,
    run: (inputs) => issueCodes(parts, inputs),
    subjectsOf: ({ userId, address }) => [`user ${userId}`, `address ${address}`],
  });
  const verify = new Collector<VerifyInput, VerifyOutcome>({
    ...lanes,
    run: (inputs) => redeemCodes(parts, inputs),
    subjectsOf: (input) => [pairKey(input)],
  });
  return Object.freeze({
    issue: (input: IssueInput, isWanted: IsWanted) => issue.submit(input, isWanted),
    verify: (input: VerifyInput, isWanted: IsWanted) => verify.submit(input, isWanted),
  });
}
