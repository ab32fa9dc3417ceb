/**
 * The rounds of a plan. In each round all services take their turn, so that a slow minute of the
 * machine affects all of them.
 */
import { print } from './build.ts';
import type { Lab, Measured } from './lab.ts';
import type { Plan, Step } from './options.ts';
import { freshRequests } from './requests.ts';
import type { Target, TargetName } from './target.ts';
import { WORKLOADS } from './workloads.ts';

/** One measurement and its place in the plan. */
export type Sample = Measured & Readonly<{
  workload: string;
  target: TargetName;
  connections: number;
  round: number;
}>;

/** Prepared requests over those that the last rate needs, so that they do not run out. */
const RATE_RESERVE = 1.6;

/** Assumed for a service that has not been measured yet, in requests per second. */
const FIRST_RATE = 4_000;

/** A connection waits for each response, which bounds its requests per second. */
const CONNECTION_RATE_MAX = 6_000;

const WARM_SECONDS = 3;
const WARM_CONNECTIONS = 64;
const WARM_RATE_MAX = 10_000;

/** Runs all steps of a plan and prints each measurement. */
export async function runRounds(lab: Lab, plan: Plan): Promise<Sample[]> {
  const samples: Sample[] = [];
  const endMs = Date.now() + plan.budgetMs;
  for (const name of new Set(plan.steps.flatMap(({ targets }) => targets))) {
    await warmUp(lab, await lab.target(name));
  }
  for (const step of plan.steps) {
    for (let round = 1; round <= plan.rounds; round += 1) {
      // The order is reversed in every second round, for the first turn may be the better one.
      const targets = round % 2 === 1 ? step.targets : step.targets.toReversed();
      for (const name of Date.now() < endMs ? targets : []) {
        const measured = await measureOnce(lab, plan, step, await lab.target(name));
        const { workload, connections } = step;
        samples.push({ workload, target: name, connections, round, ...measured });
        print(describe(samples.at(-1)!));
      }
    }
    if (Date.now() >= endMs) {
      print(`LEFT OUT, the time is over: rounds of ${step.workload} ${step.connections}`);
    }
  }
  return samples;
}

/** Sends requests until V8 has compiled what runs often. */
export async function warmUp(lab: Lab, target: Target): Promise<void> {
  const requests = freshRequests(WARM_SECONDS, WARM_RATE_MAX);
  await lab.send({ target, connections: WARM_CONNECTIONS, seconds: WARM_SECONDS, requests });
}

/** The last rate of each service in each step. */
const rates = new Map<string, number>();

async function measureOnce(
  lab: Lab,
  { warmUpSeconds, seconds }: Plan,
  { workload: name, connections }: Step,
  target: Target,
): Promise<Measured> {
  const workload = WORKLOADS.get(name);
  if (workload === undefined) throw new Error(`no such workload: ${name}`);
  const place = `${name} ${target.name} ${connections}`;
  const expected = (rates.get(place) ?? FIRST_RATE) * RATE_RESERVE;
  const rateMax = Math.min(workload.rateMax, connections * CONNECTION_RATE_MAX);
  const rate = workload.needsCodes ? Math.min(expected, rateMax) : rateMax;
  const count = Math.ceil(rate * (warmUpSeconds + seconds));
  const requests = await workload.requests(lab, target, count);
  const split = Math.ceil(requests.length * (warmUpSeconds / (warmUpSeconds + seconds)));
  const load = { target, connections };
  await lab.send({ ...load, seconds: warmUpSeconds, requests: requests.slice(0, split) });
  const measured = await lab.measure({ ...load, seconds, requests: requests.slice(split) });
  rates.set(place, measured.perSecond);
  return measured;
}

/** One line for a person who waits. */
export function describe(sample: Sample): string {
  const { workload, target, connections, round, perSecond, p50Us, p99Us } = sample;
  const warnings = [
    sample.answers4xx > 0 ? `${sample.answers4xx} of 4xx` : '',
    sample.answers5xx > 0 ? `${sample.answers5xx} RESPONSES OF 5xx` : '',
    sample.socketErrors > 0 ? `${sample.socketErrors} SOCKET ERRORS` : '',
    sample.exhausted ? 'requests ran out' : '',
  ];
  return [
    `${workload} ${connections} #${round}`.padEnd(18), target.padEnd(9),
    `${perSecond.toFixed(0)}/s`.padStart(8),
    `p50 ${(p50Us / 1000).toFixed(1)} ms`.padStart(14),
    `p99 ${(p99Us / 1000).toFixed(1)} ms`.padStart(14),
    `cpu ${sample.nodeCpuUs.toFixed(0)}+${sample.mysqldCpuUs.toFixed(0)} us`.padStart(18),
    `st ${sample.statements.toFixed(2)}`.padStart(9), ...warnings,
  ].join(' ').trimEnd();
}
