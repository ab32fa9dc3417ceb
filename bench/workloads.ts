/** The workloads: which requests each sends, and which services can do it. */
import { atLimitIn } from './at-limit.ts';
import { issueKnownCodes } from './codes.ts';
import type { Lab } from './lab.ts';
import { freshRequest, mixedRequests, newUser, refusedRequest, verifyRequest } from './requests.ts';
import type { KnownCode } from './requests.ts';
import type { Target, TargetName } from './target.ts';

/** The workloads that one load makes up. */
export type Workload = Readonly<{
  /** The services that are compared, in the order of a round. */
  targets: readonly TargetName[];
  /** Enough requests for so many seconds at such a rate. */
  requests: (lab: Lab, target: Target, count: number) => Promise<string[]>;
  /** More requests a second than any service here will answer. */
  rateMax: number;
  /** Its requests need codes, which take time: no more are prepared than will be sent. */
  needsCodes: boolean;
}>;

const ALL: readonly TargetName[] = ['floor', 'otpd', 'bare', 'textbook', 'parts'];

/** What a baseline is asked to verify; it looks at nothing. */
function anyCodes(count: number): KnownCode[] {
  return Array.from({ length: count }, () => ({ userId: newUser(), code: '123456' }));
}

function codesFor(lab: Lab, target: Target, count: number): Promise<KnownCode[]> | KnownCode[] {
  return target.name === 'otpd' ? issueKnownCodes(target, lab.counters, count) : anyCodes(count);
}

/** Of 20 requests of the mixed day 7 verify. */
const MIXED_VERIFY_SHARE = 7 / 20;

/** The workloads by name. */
export const WORKLOADS: ReadonlyMap<string, Workload> = new Map<string, Workload>([
  ['issue', {
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
