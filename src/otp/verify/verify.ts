/** POST /otp/verify for a batch of verifications: load, decide, write, commit. */
import { VerifyBatch } from './batch.ts';
import { createDeviceToken, NO_CLAIMS, readDeviceTokens } from '../crypto/devices.ts';
import { randomVerifyId } from '../crypto/random.ts';
import { digestCode, digestKey } from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { Hex } from '../../db/query.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { PreparedVerification } from './decide.ts';
import type { Deps } from '../deps.ts';
import type { OtpVerification, VerifyOutcome } from '../outcomes.ts';
import { markTests } from '../policy/test-identities.ts';
import type { TestIdentities } from '../policy/test-identities.ts';
import { limitsForVerification } from '../rules/extra-limits.ts';

type VerifyDeps = Pick<Deps, 'pool' | 'policies' | 'secrets' | 'counts'>;

/**
 * Decides a batch of verifications in one transaction, in order of arrival.
 *
 * @returns one outcome for each verification, in order
 * @throws Unavailable when the database does not answer; then either none took effect, or their
 *   outcome is unknown
 */
export async function verifyOtps(
  deps: VerifyDeps,
  inputs: readonly OtpVerification[],
  answerByMs?: number,
): Promise<VerifyOutcome[]> {
  // One id for all of them, because they are committed together.
  const verifyId = randomVerifyId();
  const verifications = inputs.map((input) => prepareVerification(deps, input, verifyId));
  const { testIdentities } = deps.policies;
  const { outcomes, shadowed } = await transaction(deps.pool,
    (tx) => decideAll(tx, verifications, deps.secrets, testIdentities), { answerByMs });
  deps.counts?.countVerifications(outcomes, shadowed);
  return outcomes;
}

function prepareVerification(
  { policies, secrets }: VerifyDeps,
  verification: OtpVerification,
  verifyId: Hex,
): PreparedVerification {
  const { userId, purpose, code, otpId = null, key, apiClient, deviceTokens } = verification;
  const policy = policies.for(purpose);
  const trustsDevices = policy.deviceDays !== null;
  return {
    userId,
    purpose,
    policy,
    digits: code.length,
    otpId,
    claims: trustsDevices ? readDeviceTokens(secrets, userId, deviceTokens ?? '') : NO_CLAIMS,
    appliedLimits: limitsForVerification(policy, verification),
    keyDigest: key === null ? null : digestKey('verify', key, apiClient),
    verifyId,
    digestFor: (keyId, otpId) => {
      const secret = secrets.byId.get(keyId);
      return secret === undefined ? null : digestCode(secret, otpId, userId, purpose, code);
    },
    tokenFor: (otp, redeemedAt) => {
      const secret = secrets.byId.get(otp.keyId);
      return secret === undefined || !trustsDevices ? undefined
        : createDeviceToken(secret, otp, redeemedAt);
    },
  };
}

async function decideAll(
  tx: Transaction,
  verifications: readonly PreparedVerification[],
  secrets: Secrets,
  testIdentities: TestIdentities,
): Promise<ReturnType<VerifyBatch['decide']>> {
  const batch = await VerifyBatch.load(tx, verifications, secrets);
  let decided = batch.decide();
  while (await batch.lockRest(tx)) decided = batch.decide();
  batch.flush(tx);
  if (testIdentities.isEmpty) return decided;
  const outcomes = markTests(decided.outcomes, (index) => {
    const { userId, purpose } = verifications[index]!;
    return testIdentities.codeFor(userId, purpose, batch.now) !== null;
  });
  return { ...decided, outcomes };
}
