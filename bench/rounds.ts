/** The rounds: every service in turn, again and again, so that all meet the same weather. */
import type { Lab, Measured } from './lab.ts';
import type { Plan, Step } from './options.ts';
import type { Target, TargetName } from './target.ts';
import { measureFlood } from './flood.ts';
import { freshRequest } from './requests.ts';
import { WORKLOADS } from './workloads.ts';

/** One measurement with its place in the whole. */
export type Sample = Measured & Readonly<{
  workload: string;
  target: TargetName;
  connections: number;
  round: number;
  /** Of `flooded`: the refusals a second beside the good requests that are measured. */
  floodPerSecond?: number;
}>;

/** Prepared requests beyond the rate that was seen last, so that they do not run out. */
const RATE_RESERVE = 1.6;

/** What is prepared when nothing is known of a service yet. */
const FIRST_RATE_PER_SECOND = 4_000;

/** One connection waits for each answer: it cannot be asked for more a second. */
const CONNECTION_RATE_MAX = 6_000;

const WARM_SECONDS = 3;
const WARM_CONNECTIONS = 64;
const WARM_REQUESTS = 30_000;

/** Runs all steps of a plan. Tells each measurement as it is made. */
export async function runRounds(
  lab: Lab,
  plan: Plan,
  say: (line: string) => void,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  const keep = (sample: Sample): void => {
    samples.push(sample);
    say(describe(sample, samples));
  };
  const ends = Date.now() + plan.budgetMs;
  await warmProcesses(lab, plan);
  for (const step of plan.steps) {
    for (let round = 1; round <= plan.rounds; round += 1) {
      if (Date.now() < ends) await runRound(lab, plan, step, round, keep);
      else say(`LEFT OUT, the time is over: ${step.workload} ${step.connections} #${round}`);
    }
  }
  return samples;
}

/** The first seconds of a process are the compiler's: they would count against its first round. */
async function warmProcesses(lab: Lab, { steps }: Plan): Promise<void> {
  for (const name of new Set(steps.flatMap(({ targets }) => targets))) {
    const target = await lab.target(name);
    const requests = Array.from({ length: WARM_REQUESTS }, freshRequest);
    await lab.send({ target, connections: WARM_CONNECTIONS, seconds: WARM_SECONDS, requests });
  }
}

async function runRound(
  lab: Lab,
  plan: Plan,
  step: Step,
  round: number,
  keep: (sample: Sample) => void,
): Promise<void> {
  const { workload, connections } = step;
  if (workload === 'flood') {
    await measureFlood(lab, { connections, round, ...plan }, keep);
    return;
  }
  for (const name of step.targets) {
    const target = await lab.target(name);
    const measured = await measureOnce(lab, plan, step, target);
    keep({ workload, target: name, connections, round, ...measured });
  }
}

/** The last rate of each service in each workload. */
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
  const expected = (rates.get(place) ?? FIRST_RATE_PER_SECOND) * RATE_RESERVE;
  const rateMax = Math.min(workload.rateMax, connections * CONNECTION_RATE_MAX);
  const rate = workload.needsCodes ? Math.min(expected, rateMax) : rateMax;
  const count = Math.ceil(rate * (warmUpSeconds + seconds));
  const requests = await workload.requests(lab, target, count);
  const split = Math.ceil(requests.length * (warmUpSeconds / (warmUpSeconds + seconds)));
  await lab.send({
    target, connections, seconds: warmUpSeconds, requests: requests.slice(0, split),
  });
  const measured = await lab.measure({
    target, connections, seconds, requests: requests.slice(split),
  });
  rates.set(place, measured.perSecond);
  return measured;
}

/** One line for a person who waits. */
function describe(sample: Sample, samples: readonly Sample[]): string {
  const { workload, target, connections, round, perSecond, p50Us, p99Us } = sample;
  const floor = samples.findLast((other) => other.target === 'floor' && other.round === round
    && other.workload === workload && other.connections === connections);
  const ratio = floor === undefined ? '' : `${(perSecond / floor.perSecond).toFixed(2)} x`;
  const troubles = [
    sample.answers5xx > 0 ? `${sample.answers5xx} ANSWERS OF 5xx` : '',
    sample.socketErrors > 0 ? `${sample.socketErrors} SOCKET ERRORS` : '',
    sample.exhausted ? 'requests ran out' : '',
  ];
  return [
    `${workload} ${connections} #${round}`.padEnd(18), target.padEnd(9),
    `${perSecond.toFixed(0)}/s`.padStart(8), ratio.padStart(8),
    `p50 ${(p50Us / 1000).toFixed(1)} ms`.padStart(14),
    `p99 ${(p99Us / 1000).toFixed(1)} ms`.padStart(14),
    `cpu ${sample.nodeCpuUs.toFixed(0)}+${sample.mysqldCpuUs.toFixed(0)} us`.padStart(18),
    `st ${sample.statements.toFixed(2)}`.padStart(9), ...troubles,
  ].join(' ').trimEnd();
}
