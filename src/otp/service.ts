/** The operations as the HTTP layer calls them: one request in, one outcome out. */
import { OptimisticKeyCheck } from './batch/changed-rows.ts';
import { Batcher } from './batcher.ts';
import type { BatchLimits } from './batcher.ts';
import { cancelOtps } from './cancel.ts';
import { ANSWER_MS, monotonicMs } from '../db/clock.ts';
import type { Hex } from '../db/query.ts';
import type { Delivery } from './delivery/delivery.ts';
import type { Deps } from './deps.ts';
import type {
  CancelOutcome, OtpCancellation, OtpRequest, OtpVerification, RequestOutcome, StatusOutcome,
  VerifyOutcome,
} from './outcomes.ts';
import { requestLockKeys, requestOtps } from './request/request.ts';
import { RefusalScreen } from './request/screen.ts';
import { readStatuses } from './status.ts';
import { verifyOtps } from './verify/verify.ts';

/** False once the client has disconnected; checked before the work starts. */
type IsConnected = () => boolean;

/** When the response to a request is due that has just arrived, by a monotonic clock. */
export function dueFromNow(): number {
  return monotonicMs() + ANSWER_MS;
}

/**
 * @param answerByMs when the outcome is due; dueFromNow() by default
 * @throws Unavailable when the database does not answer in time
 */
type Operation<I, O> = (input: I, isConnected: IsConnected, answerByMs?: number) => Promise<O>;

export type OtpService = Readonly<{
  request: Operation<OtpRequest, RequestOutcome>;
  verify: Operation<OtpVerification, VerifyOutcome>;
  status: Operation<Hex, StatusOutcome>;
  cancel: Operation<OtpCancellation, CancelOutcome>;
  /** Takes a report of a provider; null when no channel asks for reports. */
  report: Delivery['report'];
  channelNames: Delivery['channelNames'];
  /** The formats that the channels need, when none can reach this address; else null. */
  unreachable: Delivery['unreachable'];
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
    run: (inputs, answerByMs) => requestOtps(requestDeps, inputs, answerByMs),
    lockKeysOf: (input) => requestLockKeys(deps.policies, input),
  });
  const screen = new RefusalScreen(deps, limits, () => request.isBusy);
  const verify = new Batcher<OtpVerification, VerifyOutcome>({
    ...limits,
    run: (inputs, answerByMs) => verifyOtps(deps, inputs, answerByMs),
    // Not the client IP: only wrong codes lock its counter, and right codes must not wait for it.
    lockKeysOf: ({ userId }) => [userId],
  });
  const status = new Batcher<Hex, StatusOutcome>({
    ...limits,
    run: (otpIds, answerByMs) => readStatuses(deps, otpIds, answerByMs),
    lockKeysOf: (otpId) => [otpId],
  });
  const cancel = new Batcher<OtpCancellation, CancelOutcome>({
    ...limits,
    run: (inputs, answerByMs) => cancelOtps(deps, inputs, answerByMs),
    lockKeysOf: ({ otpId }) => [otpId],
  });
  deps.counts?.watch({ issue: request, verify, screen: screen.queue, status, cancel });
  return Object.freeze({
    request: async (
      input: OtpRequest,
      isConnected: IsConnected,
      answerByMs = dueFromNow(),
    ) => {
      const screened = screen.refused.size === 0 ? null
        : screen.tryAnswer(input, isConnected, answerByMs);
      const answer = screened === null ? null : await screened;
      if (answer !== null) return answer;
      const outcome = await request.submit(input, isConnected, answerByMs);
      screen.onDecided(input, outcome);
      return outcome;
    },
    verify: verify.submit.bind(verify),
    status: status.submit.bind(status),
    cancel: cancel.submit.bind(cancel),
    report: deps.delivery.report,
    channelNames: deps.delivery.channelNames,
    unreachable: deps.delivery.unreachable,
  });
}
