/** POST /otp/verify for a list of attempts: load, decide, write, commit. */
import { VerifyBatch } from './batch.ts';
import { randomVerifyId } from '../crypto/random.ts';
import { digestCode, digestKey } from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideVerify } from './decide.ts';
import type { OtpCounts } from '../metrics.ts';
import type { OtpVerification, VerifyOutcome } from '../outcomes.ts';
import type { Policies, Policy } from '../policy/policy.ts';
import { limitsOfVerification } from '../rules/extra-limits.ts';
import type { AppliedLimit } from '../rules/extra-limits.ts';

/** What redeeming codes needs. */
type VerifyDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  counts?: OtpCounts;
}>;

/** An attempt with all that is drawn or derived before the transaction, which may run again. */
type PreparedVerification = Readonly<{
  userId: string;
  purpose: string;
  policy: Policy;
  digits: number;
  appliedLimits: readonly AppliedLimit[];
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
export async function verifyOtps(
  parts: VerifyDeps,
  inputs: readonly OtpVerification[],
): Promise<VerifyOutcome[]> {
  // One name for all: they are committed together.
  const verifyId = randomVerifyId();
  const members = inputs.map((input) => prepareVerification(parts, input, verifyId));
  const { outcomes, shadowed } = await transaction(parts.pool, (tx) => decideAll(tx, members));
  parts.counts?.noteAttempts(outcomes, shadowed);
  return outcomes;
}

function prepareVerification(
  { policies, secrets }: VerifyDeps,
  input: OtpVerification,
  verifyId: Hex,
): PreparedVerification {
  const { userId, purpose, code, clientIp, key, apiClient } = input;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    policy,
    digits: code.length,
    appliedLimits: limitsOfVerification(policy, clientIp),
    keyDigest: key === null ? null : digestKey('verify', key, apiClient),
    verifyId,
    digestFor: (keyId, otpId) => {
      const secret = secrets.byId.get(keyId);
      return secret === undefined ? null : digestCode(secret, otpId, userId, purpose, code);
    },
  };
}

type Decided = Readonly<{ outcomes: VerifyOutcome[]; shadowed: number }>;

async function decideAll(
  tx: Transaction,
  members: readonly PreparedVerification[],
): Promise<Decided> {
  let shadowed = 0;
  const ledger = await VerifyBatch.load(tx, members);
  const outcomes = members.map((member) => {
    const { outcome, writes, isShadowed } = decideVerify(
      ledger.stateFor(member), member, member.policy);
    if (isShadowed) shadowed += 1;
    if (writes !== null) ledger.apply(member, writes);
    return outcome;
  });
  ledger.flush(tx);
  return { outcomes, shadowed };
}
