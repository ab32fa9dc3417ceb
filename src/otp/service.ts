/** The two operations as the HTTP layer sees them: one request in, one outcome out. */
import { issueCodes } from './issue-codes.ts';
import type { IssueParts } from './issue-codes.ts';
import type { IssueInput, IssueOutcome, VerifyInput, VerifyOutcome } from './outcome.ts';
import { redeemCodes } from './redeem-codes.ts';

/** Issues and redeems codes. Both throw `Unavailable` when the database cannot answer. */
export type OtpService = Readonly<{
  issue: (input: IssueInput) => Promise<IssueOutcome>;
  verify: (input: VerifyInput) => Promise<VerifyOutcome>;
}>;

/** Makes the service out of its parts. */
export function createOtpService(parts: IssueParts): OtpService {
  return Object.freeze({
    issue: async (input: IssueInput) => only(await issueCodes(parts, [input])),
    verify: async (input: VerifyInput) => only(await redeemCodes(parts, [input])),
  });
}

/** A list of one request has one outcome. */
function only<T>(outcomes: readonly T[]): T {
  if (outcomes.length !== 1) throw new Error(`${outcomes.length} outcomes for one request`);
  return outcomes[0]!;
}
