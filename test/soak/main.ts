/**
 * npm run soak: a mixed load at 70 % of capacity for 10 minutes, with a fault every 20 s and every
 * response compared with a model. Writes bench/results/soak.*; exits with 1 when a check fails.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { build, print, RESULTS, stopSignal } from '../../bench/build.ts';
import { describeMachine } from '../../bench/machine.ts';
import { startServer } from '../../bench/mysql.ts';
import type { BenchServer } from '../../bench/mysql.ts';
import { codeReader } from '../../bench/requests.ts';
import { startTarget } from '../../bench/target.ts';
import { childrenOf, readOwnBytes } from '../../bench/usage.ts';
import { startCuttingProxy } from '../proof/cutting-proxy.ts';
import { audit, countConnections } from './audit.ts';
import { FAULTS } from './faults.ts';
import type { Fault, Service } from './faults.ts';
import { Pace } from './pace.ts';
import { composePage, composeSoakChart, growthOf } from './report.ts';
import type { FaultOutcome, Findings, Memory } from './report.ts';
import { Observations } from './observations.ts';
import { Visitor } from './visits.ts';

const WORKERS = 2;
const DB_CONNECTIONS = 8;
const DATABASE = 'soak';

/** More than otpd can serve at once at 70 % of capacity; most wait for the pace. */
const VISITORS = 96;

/** The remaining 30 % serve the repeats of requests that a fault has interrupted. */
const LOAD_SHARE = 0.7;

const WARM_UP_MS = 6000;
const CAPACITY_MS = 6000;
const FAULT_EVERY_MS = 20_000;
const SAMPLE_EVERY_MS = 1000;

/** Under 15, the minutes of the window: no point of a limit may be available again. */
const MINUTES = 10;
const MINUTES_MAX = 14;

/** A shorter soak says nothing about the growth of memory. */
const GROWTH_MINUTES_MIN = 5;
const GROWTH_MAX = 1.3;

/** The pools, one connection outside them, and one that MySQL has not closed yet. */
const CONNECTIONS_MAX = WORKERS * DB_CONNECTIONS + 2;

/** Runs one fault and observes the service until the next one is due. */
async function observe(
  fault: Fault,
  service: Service,
  observations: Observations,
  nextAtMs: number,
): Promise<FaultOutcome> {
  const countOf = (kind: 'unavailable' | 'broken'): number =>
    observations.seconds.reduce((sum, second) => sum + second[kind], 0);
  const [unavailable, broken] = [countOf('unavailable'), countOf('broken')];
  const beganMs = observations.now();
  observations.startWatch();
  await fault.run(service);
  const endedMs = observations.now();
  await delay(Math.max(0, nextAtMs - observations.now()));
  const times = observations.endWatch();
  const firstMs = times.find((at) => at > endedMs) ?? null;
  const edges = [beganMs, ...times, observations.now()];
  const longestGapMs = edges.reduce((most, at, index) =>
    Math.max(most, at - (edges[index - 1] ?? at)), 0);
  return {
    name: fault.name, beganMs, endedMs, longestGapMs,
    recoveryMs: firstMs === null ? null : firstMs - endedMs,
    unavailable: countOf('unavailable') - unavailable, broken: countOf('broken') - broken,
    connections: await countConnections(service),
  };
}

function sampleMemory({ server, target }: Service): Memory {
  return {
    primary: readOwnBytes(target.processId),
    worker: Math.max(0, ...childrenOf(target.processId).map(readOwnBytes)),
    mysqld: readOwnBytes(server.processId),
  };
}

/** Measures the capacity, then applies load and faults. */
async function soak(
  service: Service,
  codes: Map<string, string>,
  minutes: number,
  signal: AbortSignal,
) {
  const [observations, pace] = [new Observations(), new Pace()];
  const context = { port: service.target.port, pace, observations, codes };
  const visitors = Array.from({ length: VISITORS }, () => new Visitor(context).run());
  await delay(WARM_UP_MS);
  const responses = observations.responses;
  await delay(CAPACITY_MS);
  const capacity = ((observations.responses - responses) * 1000) / CAPACITY_MS;
  const rate = capacity * LOAD_SHARE;
  pace.perSecond = rate;
  print(`capacity ${capacity.toFixed(0)}/s, load ${rate.toFixed(0)}/s`);

  const memory: Memory[] = [];
  const sampling = setInterval(() => memory.push(sampleMemory(service)), SAMPLE_EVERY_MS);
  const outcomes: FaultOutcome[] = [];
  const beganAt = observations.now();
  for (let at = 1; at * FAULT_EVERY_MS <= minutes * 60_000 && !signal.aborted; at += 1) {
    const nextAtMs = beganAt + at * FAULT_EVERY_MS;
    const fault = FAULTS[(at - 1) % FAULTS.length]!;
    const outcome = await observe(fault, service, observations, nextAtMs);
    outcomes.push(outcome);
    print(`${outcome.name}: took ${(outcome.endedMs - outcome.beganMs).toFixed(0)} ms, recovery ` +
      `${outcome.recoveryMs?.toFixed(0)} ms, ${outcome.unavailable} responses of 503, ` +
      `${outcome.broken} broken, ${outcome.connections} connections, ` +
      `${observations.wrongCount} wrong so far`);
  }
  clearInterval(sampling);
  observations.isClosed = true;
  pace.stop();
  await Promise.all(visitors);
  signal.throwIfAborted();
  return { observations, memory, outcomes, capacity, rate };
}

/** The checks that failed, one line each. */
function failures(found: Findings): string[] {
  const failed: string[] = [];
  if (found.wrongCount > 0) failed.push(`${found.wrongCount} wrong responses: ${found.wrong[0]}`);
  if (found.lost > 0) failed.push(`${found.lost} acknowledgements lost`);
  if (found.codes !== found.points) failed.push(`${found.codes} codes, ${found.points} points`);
  for (const { name, recoveryMs, connections } of found.outcomes) {
    if (recoveryMs === null) failed.push(`no recovery: ${name}`);
    if (connections > CONNECTIONS_MAX) failed.push(`${connections} connections after: ${name}`);
  }
  const growth = growthOf(found.memory);
  if (found.minutes >= GROWTH_MINUTES_MIN && growth > GROWTH_MAX) {
    failed.push(`memory grew to ${growth.toFixed(2)} times`);
  }
  return failed;
}

async function run(server: BenchServer, minutes: number, signal: AbortSignal): Promise<string[]> {
  const codes = new Map<string, string>();
  const proxy = await startCuttingProxy(server.socketPath, join(server.folder, 'proxy.sock'));
  const target = await startTarget('otpd', {
    socketPath: proxy.socketPath, databaseName: DATABASE, poolSize: DB_CONNECTIONS,
    baseFolder: null, logFile: join(server.folder, 'otpd.log'),
    environment: { WORKERS: String(WORKERS), DB_CONNECTIONS: String(DB_CONNECTIONS) },
    onPrint: codeReader(({ userId, code }) => codes.set(userId, code)),
  });
  const service: Service = { server, proxy, target };
  try {
    const { observations, ...soaked } = await soak(service, codes, minutes, signal);
    const { issued, redeemed, seconds, ...counts } = observations;
    const found: Findings = {
      ...soaked, ...counts, seconds, minutes, workers: WORKERS, issued: issued.length,
      redeemed: redeemed.length, ...await audit(service, observations),
      machine: describeMachine({ server, program: 'own' }),
    };
    mkdirSync(RESULTS, { recursive: true });
    writeFileSync(join(RESULTS, 'soak.json'), `${JSON.stringify(found)}\n`);
    writeFileSync(join(RESULTS, 'soak.md'), composePage(found));
    writeFileSync(join(RESULTS, 'soak.svg'), composeSoakChart(found));
    print(`${found.responses} responses, ${found.wrongCount} wrong, ${found.lost} of ` +
      `${found.issued + found.redeemed} acknowledgements lost, slowest ` +
      `${found.slowestMs.toFixed(0)} ms, memory ${growthOf(found.memory).toFixed(2)}`);
    return failures(found);
  } finally {
    await target.stop();
    await proxy.close();
  }
}

async function main(signal: AbortSignal): Promise<number> {
  const { values } = parseArgs({ options: { minutes: { type: 'string' } } });
  const minutes = Number(values.minutes ?? MINUTES);
  if (!(minutes > 0 && minutes <= MINUTES_MAX)) {
    throw new Error(`usage: npm run soak -- [--minutes N], above 0 and at most ${MINUTES_MAX}`);
  }
  await build();
  const server = await startServer(print, signal);
  try {
    const failed = await run(server, minutes, signal);
    for (const failure of failed) print(`FAILED ${failure}`);
    return failed.length === 0 ? 0 : 1;
  } finally {
    await server.stop();
  }
}

process.exitCode = await main(stopSignal());
