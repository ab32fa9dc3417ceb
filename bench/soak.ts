/**
 * npm run soak: a mixed load at 70 % of capacity for 10 minutes with a fault every 20 s, every
 * answer held to a model. Writes bench/results/soak.*; fails when anything was wrong.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startCuttingProxy } from '../test/proof/cutting-proxy.ts';
import { build, RESULTS } from './build.ts';
import { say } from './command.ts';
import { CounterReader } from './counters.ts';
import { describeMachine } from './machine.ts';
import { startServer } from './mysql.ts';
import type { BenchServer } from './mysql.ts';
import { audit, countConnections } from './soak/audit.ts';
import { FAULTS } from './soak/faults.ts';
import type { Fault, Victim } from './soak/faults.ts';
import { Pace } from './soak/pace.ts';
import { composePage, composeSoakChart, growthOf } from './soak/report.ts';
import type { Findings, Injury, Memory } from './soak/report.ts';
import { Tally } from './soak/tally.ts';
import { Visitor } from './soak/visits.ts';
import { startTarget } from './target.ts';
import { childrenOf, readOwnBytes } from './usage.ts';

const WORKERS = 2;
const DB_CONNECTIONS = 8;
const DATABASE = 'soak';

/** Enough to keep otpd busy; most wait for their turn. */
const VISITORS = 96;

/** Of the capacity: the rest is for what the faults have left undone. */
const LOAD_SHARE = 0.7;

const WARM_MS = 6000;
const MEASURE_MS = 6000;
const FAULT_EVERY_MS = 20_000;
const SAMPLE_EVERY_MS = 1000;

/** As issue 5 has it; the window of the limits is 900 s, and no point may be free again. */
const FULL_MINUTES = 10;
const MINUTES_MAX = 14;

/** Shorter soaks say nothing about growth. */
const GROWTH_MINUTES_MIN = 5;
const GROWTH_MAX = 1.3;

/** The messages of otpd, as it prints them: who got which code last. */
function codeReader(codes: Map<string, string>): (text: string) => void {
  let rest = '';
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, user, code] = /^message to (\S+): (\d+) is your code/.exec(line) ?? [];
      if (user !== undefined) codes.set(user, code!);
    }
  };
}

/** Does one fault, and looks at what follows until the next one is due. */
async function endure(
  fault: Fault,
  victim: Victim,
  tally: Tally,
  nextAtMs: number,
): Promise<Injury> {
  const countOf = (kind: 'unavailable' | 'broken'): number =>
    tally.seconds.reduce((sum, second) => sum + second[kind], 0);
  const [unavailable, broken] = [countOf('unavailable'), countOf('broken')];
  const beganMs = tally.now();
  tally.watch();
  await fault.run(victim);
  const endedMs = tally.now();
  await delay(Math.max(0, nextAtMs - tally.now()));
  const times = tally.unwatch();
  const firstMs = times.find((at) => at > endedMs) ?? null;
  const edges = [beganMs, ...times, tally.now()];
  const longestGapMs = edges.reduce((most, at, index) =>
    Math.max(most, at - (edges[index - 1] ?? at)), 0);
  return {
    name: fault.name, beganMs, endedMs, longestGapMs,
    recoveryMs: firstMs === null ? null : firstMs - endedMs,
    unavailable: countOf('unavailable') - unavailable, broken: countOf('broken') - broken,
    connections: await countConnections(victim),
  };
}

function sampleMemory({ server, target }: Victim): Memory {
  return {
    first: readOwnBytes(target.processId),
    worker: Math.max(0, ...childrenOf(target.processId).map(readOwnBytes)),
    mysqld: readOwnBytes(server.processId),
  };
}

/** The load, the faults and the audit. */
async function soak(victim: Victim, codes: Map<string, string>, minutes: number) {
  const [tally, pace] = [new Tally(), new Pace()];
  const place = { port: victim.target.port, pace, tally, codes };
  const visitors = Array.from({ length: VISITORS }, () => new Visitor(place).run());
  await delay(WARM_MS);
  const answers = tally.answers;
  await delay(MEASURE_MS);
  const capacity = ((tally.answers - answers) * 1000) / MEASURE_MS;
  const rate = capacity * LOAD_SHARE;
  pace.perSecond = rate;
  say(`capacity ${capacity.toFixed(0)}/s, load ${rate.toFixed(0)}/s`);

  const memory: Memory[] = [];
  const sampling = setInterval(() => memory.push(sampleMemory(victim)), SAMPLE_EVERY_MS);
  const injuries: Injury[] = [];
  const beganAt = tally.now();
  for (let at = 1; at * FAULT_EVERY_MS <= minutes * 60_000; at += 1) {
    const nextAtMs = beganAt + at * FAULT_EVERY_MS;
    const injury = await endure(FAULTS[(at - 1) % FAULTS.length]!, victim, tally, nextAtMs);
    injuries.push(injury);
    say(`${injury.name}: lasted ${(injury.endedMs - injury.beganMs).toFixed(0)} ms, recovery ` +
      `${injury.recoveryMs?.toFixed(0)} ms, ${injury.unavailable} times 503, ${injury.broken} ` +
      `broken, ${injury.connections} connections, wrong so far ${tally.wrongCount}`);
  }
  clearInterval(sampling);
  tally.isClosed = true;
  pace.stop();
  await Promise.all(visitors);
  return { tally, memory, injuries, capacity, rate };
}

function judge(found: Findings): string[] {
  const faults: string[] = [];
  if (found.wrongCount > 0) faults.push(`${found.wrongCount} wrong answers: ${found.wrong[0]}`);
  if (found.lost > 0) faults.push(`${found.lost} acknowledgements lost`);
  if (found.codes !== found.points) faults.push(`${found.codes} codes, ${found.points} points`);
  for (const { name, recoveryMs, connections } of found.injuries) {
    if (recoveryMs === null) faults.push(`no recovery: ${name}`);
    if (connections > WORKERS * DB_CONNECTIONS + 2) faults.push(`${connections} left: ${name}`);
  }
  const growth = growthOf(found.memory);
  if (found.minutes >= GROWTH_MINUTES_MIN && growth > GROWTH_MAX) {
    faults.push(`memory grew by ${growth.toFixed(2)}`);
  }
  return faults;
}

async function run(server: BenchServer, minutes: number): Promise<string[]> {
  const codes = new Map<string, string>();
  const proxy = await startCuttingProxy(server.socketPath, join(server.folder, 'proxy.sock'));
  const target = await startTarget('otpd', {
    socketPath: proxy.socketPath, databaseName: DATABASE, poolSize: DB_CONNECTIONS,
    policyFile: '', beforeFolder: null, logFile: join(server.folder, 'otpd.log'),
    environment: { WORKERS: String(WORKERS), DB_CONNECTIONS: String(DB_CONNECTIONS) },
    onPrint: codeReader(codes),
  });
  const victim: Victim = {
    server, proxy, target, administrator: () => CounterReader.open(server.socketPath),
  };
  try {
    const { tally, ...soaked } = await soak(victim, codes, minutes);
    const { issued, redeemed, seconds, ...counts } = tally;
    const found: Findings = {
      ...soaked, ...counts, seconds, minutes, workers: WORKERS, issued: issued.length,
      redeemed: redeemed.length, ...await audit(victim, tally),
      machine: describeMachine({ server, program: 'own' }),
    };
    // A short soak is a try, and never takes the place of a whole one.
    const folder = minutes < FULL_MINUTES ? join(RESULTS, 'partial') : RESULTS;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'soak.json'), `${JSON.stringify(found)}\n`);
    writeFileSync(join(folder, 'soak.md'), composePage(found));
    writeFileSync(join(folder, 'soak.svg'), composeSoakChart(found));
    say(`${found.answers} answers, ${found.wrongCount} wrong, ${found.lost} of ` +
      `${found.issued + found.redeemed} acknowledgements lost, slowest ` +
      `${found.slowestMs.toFixed(0)} ms, memory ${growthOf(found.memory).toFixed(2)}`);
    return judge(found);
  } finally {
    await target.stop();
    await proxy.close();
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { minutes: { type: 'string' } } });
  const minutes = Number(values.minutes ?? FULL_MINUTES);
  if (!(minutes > 0 && minutes <= MINUTES_MAX)) {
    throw new Error(`--minutes N: more than 0, at most ${MINUTES_MAX}`);
  }
  await build();
  const server = await startServer(say, new AbortController().signal);
  try {
    const faults = await run(server, minutes);
    for (const fault of faults) say(`FAULT ${fault}`);
    return faults.length === 0 ? 0 : 1;
  } finally {
    await server.stop();
  }
}

process.exitCode = await main();
