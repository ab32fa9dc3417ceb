/** The operations as the HTTP layer calls them: one request in, one outcome out. */
import { Batcher } from './batcher.ts';
import type { BatchLimits } from './batcher.ts';
import { cancelOtps } from './cancel.ts';
import type { Hex } from '../db/query.ts';
import type { Deps } from './deps.ts';
import type {
  CancelOutcome, OtpCancellation, OtpRequest, OtpVerification, RequestOutcome, StatusOutcome,
  VerifyOutcome,
} from './outcomes.ts';
import { OptimisticKeyCheck, requestLockKeys, requestOtps } from './request/request.ts';
import { RefusalScreen } from './request/screen.ts';
import { readStatuses } from './status.ts';
import { verifyOtps } from './verify/verify.ts';

/** False once the client has disconnected; checked before the work starts. */
export type IsConnected = () => boolean;

/** Every operation throws Unavailable when the database does not answer. */
export type OtpService = Readonly<{
  request: (input: OtpRequest, isConnected: IsConnected) => Promise<RequestOutcome>;
  verify: (input: OtpVerification, isConnected: IsConnected) => Promise<VerifyOutcome>;
  status: (otpId: Hex, isConnected: IsConnected) => Promise<StatusOutcome>;
  cancel: (input: OtpCancellation, isConnected: IsConnected) => Promise<CancelOutcome>;
  /** The user_id formats that a channel accepts, when none accepts this user_id; else null. */
  unreachable: (userId: string) => string | null;
}>;

/** Throughput grows with the size of batches first, and then with their concurrency. */
const BATCH_LIMITS: BatchLimits = Object.freeze({
  concurrencyMax: 3,
  batchMax: 128,
  backlogPerBatch: 20,
  waitingMax: 4096,
});

export function createOtpService(deps: Deps, limits: BatchLimits = BATCH_LIMITS): OtpService {
  const requestDeps = { ...deps, keyCheck: new OptimisticKeyCheck() };
  const request = new Batcher<OtpRequest, RequestOutcome>({
    ...limits,
    run: (inputs) => requestOtps(requestDeps, inputs),
    lockKeysOf: (input) => requestLockKeys(deps.policies, input),
  });
  const screen = new RefusalScreen(deps, limits, () => request.isBusy);
  const verify = new Batcher<OtpVerification, VerifyOutcome>({
    ...limits,
    run: (inputs) => verifyOtps(deps, inputs),
    // Not the client IP: only wrong codes lock its counter, and right ones from one must not wait.
    lockKeysOf: ({ userId }) => [userId],
  });
  const status = new Batcher<Hex, StatusOutcome>({
    ...limits,
    run: (otpIds) => readStatuses(deps, otpIds),
    lockKeysOf: (otpId) => [otpId],
  });
  const cancel = new Batcher<OtpCancellation, CancelOutcome>({
    ...limits,
    run: (inputs) => cancelOtps(deps, inputs),
    lockKeysOf: ({ otpId }) => [otpId],
  });
  deps.counts?.watch({ issue: request, verify, screen: screen.queue, status, cancel });
  return Object.freeze({
    request: async (input: OtpRequest, isConnected: IsConnected) => {
      const screened = screen.refused.size === 0 ? null : screen.tryAnswer(input, isConnected);
      const answer = screened === null ? null : await screened;
      if (answer !== null) return answer;
      const outcome = await request.submit(input, isConnected);
      screen.onDecided(input, outcome);
      return outcome;
    },
    verify: (input: OtpVerification, isConnected: IsConnected) => verify.submit(input, isConnected),
    status: (otpId: Hex, isConnected: IsConnected) => status.submit(otpId, isConnected),
    cancel: (input: OtpCancellation, isConnected: IsConnected) => cancel.submit(input, isConnected),
    unreachable: deps.delivery.unreachable,
  });
}
