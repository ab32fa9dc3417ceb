/** POST /otp/verify for a list of attempts: load, decide, write, commit. */
import { VerifyLedger } from './batch.ts';
import { drawVerifyId } from '../crypto/random.ts';
import { digestCode, digestKey } from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { SessionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideVerify } from './decide.ts';
import type { OtpCounts } from '../metrics.ts';
import type { VerifyInput, VerifyOutcome } from '../outcomes.ts';
import type { Policies, Policy } from '../policy/policy.ts';
import { countedOfAttempt } from '../rules/extra-limits.ts';
import type { Counted } from '../rules/extra-limits.ts';

/** What redeeming codes needs. */
type RedeemParts = Readonly<{
  pool: SessionPool;
  policies: Policies;
  secrets: Secrets;
  counts?: OtpCounts;
}>;

/** An attempt with all that is drawn or derived before the transaction, which may run again. */
type Member = Readonly<{
  userId: string;
  purpose: string;
  policy: Policy;
  digits: number;
  counted: readonly Counted[];
  keyDigest: Hex | null;
  verifyId: Hex;
  digestFor: (keyId: string, otpId: Hex) => Hex | null;
}>;

/**
 * Redeems codes for a list of attempts in one transaction, in the order of the list.
 *
 * @returns one outcome for each attempt, in order
 * @throws Unavailable when the database cannot answer; then none of them took effect, or their
 *   outcome is unknown
 */
export async function redeemCodes(
  parts: RedeemParts,
  inputs: readonly VerifyInput[],
): Promise<VerifyOutcome[]> {
  // One name for all: they are committed together.
  const verifyId = drawVerifyId();
  const members = inputs.map((input) => createMember(parts, input, verifyId));
  const { outcomes, shadowed } = await transaction(parts.pool, (tx) => decideAll(tx, members));
  parts.counts?.noteAttempts(outcomes, shadowed);
  return outcomes;
}

function createMember(
  { policies, secrets }: RedeemParts,
  input: VerifyInput,
  verifyId: Hex,
): Member {
  const { userId, purpose, code, address, key, caller } = input;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    policy,
    digits: code.length,
    counted: countedOfAttempt(policy, address),
    keyDigest: key === null ? null : digestKey('verify', key, caller),
    verifyId,
    digestFor: (keyId, otpId) => {
      const secret = secrets.byId.get(keyId);
      return secret === undefined ? null : digestCode(secret, otpId, userId, purpose, code);
    },
  };
}

type Decided = Readonly<{ outcomes: VerifyOutcome[]; shadowed: number }>;

async function decideAll(tx: Transaction, members: readonly Member[]): Promise<Decided> {
  let shadowed = 0;
  const ledger = await VerifyLedger.load(tx, members);
  const outcomes = members.map((member) => {
    const { outcome, writes, isShadowed } = decideVerify(
      ledger.stateOf(member), member, member.policy);
    if (isShadowed) shadowed += 1;
    if (writes !== null) ledger.apply(member, writes);
    return outcome;
  });
  ledger.store(tx);
  return { outcomes, shadowed };
}
