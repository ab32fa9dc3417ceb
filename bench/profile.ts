/**
 * npm run profile: where the time of a request goes, in Node, in mysqld and in waiting. Writes
 * bench/results/profile.md and .json. See bench/README.md.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { BENCH, build, RESULTS } from './build.ts';
import { say, stopSignal } from './command.ts';
import { openLab } from './lab.ts';
import type { Lab } from './lab.ts';
import { describeMachine } from './machine.ts';
import { measureLists } from './profile/lists.ts';
import { timesOf } from './profile/node-parts.ts';
import type { CpuProfile } from './profile/node-parts.ts';
import { composePage } from './profile/page.ts';
import type { Findings, Profiled } from './profile/page.ts';
import { StatementReader } from './profile/statements.ts';
import { freshRequests } from './requests.ts';
import type { Target, TargetName } from './target.ts';
import { WORKLOADS } from './workloads.ts';

const CONNECTIONS = 64;
const SECONDS = 10;
const WARM_SECONDS = 6;
const WARM_RATE_MAX = 10_000;

/** More requests a second than are answered here; codes to verify take time to prepare. */
const RATE_MAX = 12_000;
const VERIFY_RATE_MAX = 6_000;

/** `bare` is what node:http costs alone. */
const CASES: readonly (readonly [workload: string, target: TargetName])[] =
  [['issue', 'otpd'], ['verify', 'otpd'], ['refusal', 'otpd'], ['issue', 'bare']];

const RECORD_TIMEOUT_MS = 20_000;
const RECORD_POLL_MS = 50;
const BEGIN_MS = 200;

type Order = Readonly<{ connections: number; seconds: number }>;

/** Idle time of all cores since the machine began, in seconds. */
function idleSeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.idle, 0) / 1000;
}

/** Ends the recording of a process (profile/recorder.ts), and reads it. */
async function endRecording(target: Target, file: string): Promise<CpuProfile> {
  process.kill(target.processId, 'SIGPWR');
  const deadline = AbortSignal.timeout(RECORD_TIMEOUT_MS);
  while (!existsSync(file)) {
    deadline.throwIfAborted();
    await delay(RECORD_POLL_MS);
  }
  const profile = JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  rmSync(file);
  return profile;
}

async function profileOne(
  lab: Lab,
  reader: StatementReader,
  [workload, name]: (typeof CASES)[number],
  { connections, seconds }: Order,
): Promise<Profiled> {
  const file = join(lab.server.folder, 'profile');
  process.env.NODE_OPTIONS = `--import=${join(BENCH, 'dist/profile/recorder.js')}`;
  process.env.PROFILE_FILE = file;
  const target = await lab.target(name);
  delete process.env.NODE_OPTIONS;
  const load = { target, connections, seconds };
  await lab.send({ ...load, seconds: WARM_SECONDS,
    requests: freshRequests(WARM_SECONDS, WARM_RATE_MAX) });
  const { requests, needsCodes } = WORKLOADS.get(workload)!;
  const rate = needsCodes ? VERIFY_RATE_MAX : RATE_MAX;
  const order = { ...load, requests: await requests(lab, target, rate * seconds) };
  process.kill(target.processId, 'SIGPWR');
  await delay(BEGIN_MS);
  await reader.reset();
  const [idleBefore, from] = [idleSeconds(), performance.now()];
  const measured = await lab.measure(order);
  const idle = (idleSeconds() - idleBefore) / ((performance.now() - from) / 1000) / cpus().length;
  const statements = await reader.statements(`bench_${name}`);
  const flushes = await reader.flushes();
  const parts = timesOf(await endRecording(target, file));
  say(`${workload} ${name}: ${measured.perSecond.toFixed(0)}/s`);
  return {
    name: name === 'otpd' ? workload : name, measured, idleShare: idle, parts, statements, flushes,
  };
}

async function profileAll(lab: Lab, order: Order): Promise<Findings> {
  const reader = await StatementReader.open(lab.server.socketPath);
  try {
    const profiles: Profiled[] = [];
    for (const one of CASES) profiles.push(await profileOne(lab, reader, one, order));
    const lists = await measureLists(lab, await lab.target('otpd'));
    return { machine: describeMachine(lab), ...order, lists, profiles };
  } finally {
    await reader.close();
  }
}

function readOrder(): Order {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({ options: { connections: text, seconds: text } });
  const order = {
    connections: Number(values.connections ?? CONNECTIONS),
    seconds: Number(values.seconds ?? SECONDS),
  };
  if (Object.values(order).every((number) => Number.isInteger(number) && number >= 1)) return order;
  throw new Error('usage: npm run profile -- [--connections N] [--seconds S]: whole, at least 1');
}

async function main(signal: AbortSignal): Promise<void> {
  const order = readOrder();
  await build();
  const lab = await openLab({ poolSize: 32, load: null, beforeFolder: null }, say, signal);
  try {
    const findings = await profileAll(lab, order);
    writeFileSync(join(RESULTS, 'profile.md'), composePage(findings));
    const raw = JSON.stringify(findings, (_, value: unknown) =>
      (value instanceof Map ? Object.fromEntries(value) : value), 1);
    writeFileSync(join(RESULTS, 'profile.json'), `${raw}\n`);
  } finally {
    await lab.close();
  }
}

await main(stopSignal());
