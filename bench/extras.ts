/** Measurements beside the rounds: full tables, one address with many users, a million requests. */
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { measureDelivery } from './delivery.ts';
import type { DeliveryResult } from './delivery.ts';
import { enlargeMemory } from './enlarge-memory.ts';
import { fillTables } from './fill-tables.ts';
import type { Lab } from './lab.ts';
import type { Options, Plan } from './options.ts';
import { freshRequest, freshRequests, issueRequest, newAddress, newUser } from './requests.ts';
import type { Sample } from './rounds.ts';
import type { Target } from './target.ts';
import { readUsage } from './usage.ts';
import { median } from './summary.ts';

/** Shares and ratios; null when not measured. */
export type Extras = Readonly<{
  samples: readonly Sample[];
  /** Throughput with full tables over that with empty ones. */
  bigShare: number | null;
  /** The same with memory for the full tables. */
  bigInMemoryShare: number | null;
  /** Throughput with all users at one address over that with an address each. */
  oneAddressShare: number | null;
  /** p99 of requests beside a slow provider over that beside a fast one. */
  slowProviderShare: number | null;
  /** Resident memory after a million requests over that before. */
  growth: number | null;
  /** Resident memory by requests answered since the start. */
  memory: readonly Readonly<{ requests: number; residentBytes: number }>[];
}>;

const BIG_CONNECTIONS = 64;
const RATE_MAX = 20_000;
const BIG_USERS = 5_000_000;
const BIG_KEYS = 10_000_000;

/** Users behind the one address; each may ask again and again. */
const ONE_ADDRESS_USERS = 10_000;
const ONE_ADDRESS_POLICY = '{"default":{"address_limit":100000,"user_limit":1000}}';

const MILLION = 1_000_000;
const MILLION_CONNECTIONS = 256;
const MILLION_CHUNK_SECONDS = 10;
/** At the slowest speed that is of any interest it takes half an hour. */
const MILLION_CHUNKS_MAX = 200;
/** Memory is compared from here on: by then the heap has its working size. */
const MILLION_SETTLED_REQUESTS = 100_000;

/** Runs what the options ask for. */
export async function runExtras(
  lab: Lab,
  options: Options,
  say: (line: string) => void,
): Promise<Extras> {
  const delivery: DeliveryResult = options.delivery
    ? await measureDelivery(lab, options.plan, say) : { samples: [], slowShare: null };
  const big = options.big ? await measureBig(lab, options, say) : [];
  const samples = [...delivery.samples, ...big];
  const memory = options.million ? await measureMillion(lab, options, say) : [];
  const [first, last] = [memory[0], memory.at(-1)];
  return {
    samples,
    bigShare: shareOfEmpty(samples, 'full tables'),
    bigInMemoryShare: shareOfEmpty(samples, IN_MEMORY, EMPTY_IN_MEMORY),
    oneAddressShare: shareOfEmpty(samples, 'one address'),
    slowProviderShare: delivery.slowShare,
    growth: first && last ? last.residentBytes / first.residentBytes : null,
    memory,
  };
}

/** Measured last, once MySQL has been given memory. */
const IN_MEMORY = 'full tables in memory';
const EMPTY_IN_MEMORY = 'empty tables, as much memory';

function shareOfEmpty(
  samples: readonly Sample[],
  workload: string,
  emptyWorkload = 'empty tables',
): number | null {
  const shares = samples.filter((sample) => sample.workload === workload).flatMap((sample) => {
    const empty = samples.find((other) =>
      other.workload === emptyWorkload && other.round === sample.round);
    return empty === undefined ? [] : [sample.perSecond / empty.perSecond];
  });
  return shares.length === 0 ? null : median(shares);
}

async function measureBig(
  lab: Lab,
  { plan, scale }: Options,
  say: (line: string) => void,
): Promise<Sample[]> {
  const policyFile = join(lab.server.folder, 'policy.json');
  writeFileSync(policyFile, ONE_ADDRESS_POLICY);
  const empty = await lab.target('otpd', { label: 'otpd_empty' });
  const full = await lab.target('otpd', { label: 'otpd_full' });
  const one = await lab.target('otpd', { label: 'otpd_one', policyFile });
  await fillTables(lab, full, { users: BIG_USERS * scale, keys: BIG_KEYS * scale }, say);
  const address = newAddress();
  const users = Array.from({ length: ONE_ADDRESS_USERS }, newUser);
  const variants: Variants = [
    ['empty tables', empty, freshRequest],
    ['full tables', full, freshRequest],
    ['one address', one, (index) => issueRequest(users[index % users.length] ?? '', address)],
  ];
  const samples = await measureVariants(lab, plan, variants, say);
  say('giving MySQL memory for the full tables');
  await enlargeMemory(lab, full);
  const inMemory: Variants = [
    [EMPTY_IN_MEMORY, empty, freshRequest], [IN_MEMORY, full, freshRequest],
  ];
  return [...samples, ...await measureVariants(lab, plan, inMemory, say)];
}

type Variants = readonly [workload: string, Target, (index: number) => string][];

async function measureVariants(
  lab: Lab,
  plan: Plan,
  variants: Variants,
  say: (line: string) => void,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 1; round <= plan.rounds; round += 1) {
    for (const [workload, target, request] of variants) {
      const sample = await measureVariant(lab, target, plan.seconds, request);
      samples.push({ workload, target: 'otpd', connections: BIG_CONNECTIONS, round, ...sample });
      const { perSecond, answers4xx, answers5xx } = sample;
      const refused = `${answers4xx} of 4xx, ${answers5xx} of 5xx`;
      say(`${workload} #${round}: ${perSecond.toFixed(0)}/s, ${refused}`);
    }
  }
  return samples;
}

async function measureVariant(
  lab: Lab,
  target: Target,
  seconds: number,
  request: (index: number) => string,
) {
  const order = (time: number) => ({
    target,
    connections: BIG_CONNECTIONS,
    seconds: time,
    requests: Array.from({ length: RATE_MAX * time }, (_, index) => request(index)),
  });
  await lab.send(order(1));
  return lab.measure(order(seconds));
}

async function measureMillion(lab: Lab, { scale }: Options, say: (line: string) => void) {
  const target = await lab.target('otpd', { label: 'otpd_million' });
  const memory: { requests: number; residentBytes: number }[] = [];
  let requests = 0;
  for (let chunk = 0; chunk < MILLION_CHUNKS_MAX && requests < MILLION * scale; chunk += 1) {
    const result = await lab.send({
      target,
      connections: MILLION_CONNECTIONS,
      seconds: MILLION_CHUNK_SECONDS,
      requests: freshRequests(MILLION_CHUNK_SECONDS, RATE_MAX),
    });
    requests += result.answers2xx;
    const { residentBytes } = await readUsage(target.processId);
    if (requests >= MILLION_SETTLED_REQUESTS * scale) memory.push({ requests, residentBytes });
    say(`${requests} requests: ${(residentBytes / 1e6).toFixed(0)} MB resident`);
  }
  return memory;
}
