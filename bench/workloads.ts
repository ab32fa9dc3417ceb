/** The workloads: which requests each sends, and which services can answer them. */
import type { Lab } from './lab.ts';
import {
  atLimitIn, freshRequest, knownCodes, mixedRequests, newUser, refusedRequest, verifyRequest,
} from './requests.ts';
import type { KnownCode } from './requests.ts';
import type { Target, TargetName } from './target.ts';

/** One workload. */
export type Workload = Readonly<{
  /** The services that are compared, in the order of a round. */
  targets: readonly TargetName[];
  /** Prepares this number of requests, more or less. */
  requests: (lab: Lab, target: Target, count: number) => Promise<string[]>;
  /** Above the rate of any service, in requests per second. */
  rateMax: number;
  /** Preparing codes takes time, so only the requests that will be sent are prepared. */
  needsCodes: boolean;
}>;

const ALL: readonly TargetName[] = ['floor', 'otpd', 'bare', 'textbook', 'parts'];

/** Of 20 requests of the mixed workload 7 verify. */
const MIXED_VERIFY_SHARE = 7 / 20;

/** The floor inserts a row whatever the request is, so any code does. */
async function codesFor(lab: Lab, target: Target, count: number): Promise<KnownCode[]> {
  if (target.name !== 'floor') return knownCodes(lab, target, count);
  return Array.from({ length: count }, () => ({ userId: newUser(), code: '123456' }));
}

/** The workloads by name. */
export const WORKLOADS: ReadonlyMap<string, Workload> = new Map<string, Workload>([
  ['request', {
    targets: ALL,
    requests: async (_lab, _target, count) => Array.from({ length: count }, freshRequest),
    rateMax: 20_000,
    needsCodes: false,
  }],
  ['verify', {
    targets: ['floor', 'otpd'],
    requests: async (lab, target, count) =>
      (await codesFor(lab, target, count)).map((code) => verifyRequest(code)),
    rateMax: 20_000,
    needsCodes: true,
  }],
  ['refusal', {
    targets: ALL,
    requests: async (lab, target, count) => {
      const atLimit = await atLimitIn(lab, target);
      return Array.from({ length: count }, (_, index) => refusedRequest(atLimit, index));
    },
    rateMax: 40_000,
    needsCodes: false,
  }],
  ['mixed', {
    targets: ['floor', 'otpd'],
    requests: async (lab, target, count) => {
      const atLimit = await atLimitIn(lab, target);
      const codes = await codesFor(lab, target, Math.ceil(count * MIXED_VERIFY_SHARE));
      return mixedRequests(codes, atLimit);
    },
    rateMax: 20_000,
    needsCodes: true,
  }],
]);
