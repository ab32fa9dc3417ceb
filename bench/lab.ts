/** The laboratory: one MySQL, the services on it, and one measurement at a time. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CounterReader } from './counters.ts';
import type { Counters } from './counters.ts';
import { findLoadProgram, runLoad } from './load.ts';
import type { LoadProgram, LoadResult } from './load.ts';
import { startServer } from './mysql.ts';
import type { BenchServer } from './mysql.ts';
import { writeRequests } from './requests.ts';
import { startTarget } from './target.ts';
import type { Target, TargetName, TargetOptions } from './target.ts';
import { readUsage } from './usage.ts';

/** What a measurement needs to know. */
export type Order = Readonly<{
  target: Target;
  connections: number;
  seconds: number;
  requests: readonly string[];
}>;

/** One measurement: what came back, and what it cost, per request. */
export type Measured = LoadResult & Readonly<{
  perSecond: number;
  nodeCpuUs: number;
  mysqldCpuUs: number;
  statements: number;
  commits: number;
  redoBytes: number;
  binlogBytes: number;
  dataBytes: number;
  receivedBytes: number;
  /** Resident memory of the service right after. */
  residentBytes: number;
}>;

/** What is under way when a load ends is done soon after; it belongs to the measurement. */
const SETTLE_MS = 100;

/** Statements of reading the counters once. */
const READING_STATEMENTS = 2;

/** Which options of a service may be set by the caller. */
export type Variant = Readonly<{
  label?: string;
  policyFile?: string;
  environment?: Readonly<Record<string, string>>;
}>;

/** One MySQL and the services that were started on it. */
export class Lab {
  readonly server: BenchServer;
  readonly counters: CounterReader;
  readonly program: LoadProgram;
  readonly #signal: AbortSignal;
  readonly #options: LabOptions;
  readonly #targets = new Map<string, Target>();
  #fileCount = 0;

  constructor(
    server: BenchServer,
    counters: CounterReader,
    program: LoadProgram,
    options: LabOptions,
    signal: AbortSignal,
  ) {
    this.server = server;
    this.counters = counters;
    this.program = program;
    this.#options = options;
    this.#signal = signal;
  }

  /** The service of that name, started when it is first asked for. */
  async target(
    name: TargetName,
    { label = name, policyFile = '', environment = {} }: Variant = {},
  ): Promise<Target> {
    this.#signal.throwIfAborted();
    const known = this.#targets.get(label);
    if (known !== undefined) return known;
    const options: TargetOptions = {
      socketPath: this.server.socketPath,
      databaseName: `bench_${label}`,
      poolSize: this.#options.poolSize,
      beforeFolder: this.#options.beforeFolder,
      policyFile,
      environment,
      logFile: join(this.server.folder, `${label}.log`),
    };
    const target = await startTarget(name, options);
    this.#targets.set(label, target);
    return target;
  }

  /** Sends requests until they end or the time does, and measures nothing. */
  async prepare(order: Order): Promise<LoadResult> {
    // Not by wrk, which stays for the whole time even when it has nothing left to send.
    return this.send(order, 'own');
  }

  /** Sends requests for a time. */
  async send(
    { target, connections, seconds, requests }: Order,
    program: LoadProgram = this.program,
  ): Promise<LoadResult> {
    this.#fileCount += 1;
    const file = join(this.server.folder, `requests-${this.#fileCount % FILES_MAX}`);
    writeRequests(file, requests);
    const load = { port: target.port, connections, seconds, file };
    return runLoad(program, load, this.#signal);
  }

  /** Sends requests and measures what they cost. Nothing else may use the server meanwhile. */
  async measure(order: Order): Promise<Measured> {
    const before = await this.#read(order.target);
    const result = await this.send(order);
    await delay(SETTLE_MS);
    const after = await this.#read(order.target);
    return costPerRequest(result, before, after);
  }

  /** Ends all services and the server. */
  async close(): Promise<void> {
    await Promise.all([...this.#targets.values()].map((target) => target.stop()));
    await this.counters.close().catch(() => {});
    await this.server.stop();
  }

  async #read(target: Target): Promise<Reading> {
    const [node, mysqld] = await Promise.all([
      readUsage(target.processId), readUsage(this.server.processId),
    ]);
    return { node, mysqld, counters: await this.counters.read() };
  }
}

type Reading = Readonly<{
  node: { cpuUs: number; residentBytes: number };
  mysqld: { cpuUs: number };
  counters: Counters;
}>;

/** Two loads may run at once; the third overwrites the file of the first. */
const FILES_MAX = 4;

/** What it works with. */
export type LabOptions = Readonly<{
  poolSize: number;
  load: LoadProgram | null;
  /** Of the other otpd, `before`. */
  beforeFolder: string | null;
}>;

/** Opens a laboratory: starts MySQL and finds the load generator. */
export async function openLab(
  options: LabOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Lab> {
  const server = await startServer(say, signal);
  try {
    const counters = await CounterReader.open(server.socketPath);
    const program = options.load ?? findLoadProgram(process.env.PATH ?? '');
    return new Lab(server, counters, program, options, signal);
  } catch (error) {
    await server.stop();
    throw error;
  }
}

function costPerRequest(result: LoadResult, before: Reading, after: Reading): Measured {
  const { requests, seconds } = result;
  const each = (total: number): number => total / Math.max(1, requests);
  const counted = (name: keyof Counters): number => after.counters[name] - before.counters[name];
  return {
    ...result,
    perSecond: requests / seconds,
    nodeCpuUs: each(after.node.cpuUs - before.node.cpuUs),
    mysqldCpuUs: each(after.mysqld.cpuUs - before.mysqld.cpuUs),
    statements: each(counted('statements') - READING_STATEMENTS),
    commits: each(counted('commits')),
    redoBytes: each(counted('redoBytes')),
    binlogBytes: each(counted('binlogBytes')),
    dataBytes: each(counted('dataBytes')),
    receivedBytes: each(counted('receivedBytes')),
    residentBytes: after.node.residentBytes,
  };
}
