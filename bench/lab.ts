/** One MySQL, the services that run on it, and the cost of a load as MySQL and the OS count it. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { findLoadProgram, runLoad } from './load.ts';
import type { LoadProgram, LoadResult } from './load.ts';
import type { BenchServer } from './mysql.ts';
import { writeRequests } from './requests.ts';
import { openGroup, openServer } from './site.ts';
import type { Site } from './site.ts';
import { startTarget } from './target.ts';
import type { Target, TargetName } from './target.ts';
import { readUsage } from './usage.ts';

/** A load. */
export type Order = Readonly<{
  target: Target;
  connections: number;
  seconds: number;
  requests: readonly string[];
}>;

/** The result of one load, and its costs per request. */
export type Measured = LoadResult & Readonly<{
  perSecond: number;
  nodeCpuUs: number;
  mysqldCpuUs: number;
  statements: number;
  commits: number;
  redoBytes: number;
  binlogBytes: number;
  dataBytes: number;
  /** Resident memory of the service right after the load. */
  residentBytes: number;
}>;

/** How a service differs from the default of its name. */
export type Variant = Readonly<{ label?: string; nodeArguments?: readonly string[] }>;

/** How a lab is opened. */
export type LabOptions = Readonly<{
  poolSize: number;
  load: LoadProgram | null;
  baseFolder: string | null;
  /** A group of three is started as well, for the services `group` and `before`. */
  isGroup?: boolean;
}>;

/** Totals since MySQL was started. */
type Counters = Readonly<{
  statements: number;
  commits: number;
  redoBytes: number;
  binlogBytes: number;
  /** Everything InnoDB has written: redo log, pages, doublewrite buffer. */
  dataBytes: number;
}>;

type Reading = Readonly<{
  node: { cpuUs: number; residentBytes: number };
  mysqld: { cpuUs: number };
  counters: Counters;
}>;

/** Reading the counters executes two statements, which the counters include. */
const READING_STATEMENTS = 2;

/** Work that is in progress when a load ends finishes within this time and is part of its cost. */
const SETTLE_MS = 100;

/** Two loads may run at once, so a file is only overwritten by the fourth load after it. */
const REQUEST_FILES = 4;

/** One MySQL and the services that were started on it. */
export class Lab {
  readonly server: BenchServer;
  readonly program: LoadProgram;
  readonly #site: Site;
  readonly #group: Site | null;
  readonly #signal: AbortSignal;
  readonly #options: LabOptions;
  readonly #targets = new Map<string, Target>();
  #fileCount = 0;

  constructor(
    site: Site & Readonly<{ server: BenchServer }>,
    group: Site | null,
    options: LabOptions,
    signal: AbortSignal,
  ) {
    this.server = site.server;
    this.#site = site;
    this.#group = group;
    this.program = options.load ?? findLoadProgram(process.env.PATH ?? '');
    this.#options = options;
    this.#signal = signal;
  }

  /** The service of a label; started on first use. */
  async target(name: TargetName, variant: Variant = {}): Promise<Target> {
    this.#signal.throwIfAborted();
    const { label = name, nodeArguments = [] } = variant;
    const known = this.#targets.get(label);
    if (known !== undefined) return known;
    const { socketPath, environmentFor } = this.#siteOf(name);
    const databaseName = `bench_${label}`;
    const target = await startTarget(name, {
      socketPath,
      databaseName,
      environment: {
        ...environmentFor(databaseName), DB_CONSISTENCY: name === 'before' ? 'before' : '',
      },
      poolSize: this.#options.poolSize,
      baseFolder: this.#options.baseFolder,
      nodeArguments,
      logFile: join(this.server.folder, `${label}.log`),
    });
    this.#targets.set(label, target);
    return target;
  }

  /** Sends requests until they run out or the time is over, without measuring. */
  async prepare(order: Order): Promise<LoadResult> {
    // wrk would stay for the whole time, even with nothing left to send.
    return this.send(order, 'own');
  }

  /** Sends requests for a time. */
  async send(
    { target, connections, seconds, requests }: Order,
    program: LoadProgram = this.program,
  ): Promise<LoadResult> {
    this.#fileCount += 1;
    const file = join(this.server.folder, `requests-${this.#fileCount % REQUEST_FILES}`);
    writeRequests(file, requests);
    return runLoad(program, { port: target.port, connections, seconds, file }, this.#signal);
  }

  /** Sends requests and measures their cost. Nothing else may use MySQL meanwhile. */
  async measure(order: Order): Promise<Measured> {
    const before = await this.#read(order.target);
    const result = await this.send(order);
    await delay(SETTLE_MS);
    const after = await this.#read(order.target);
    return costPerRequest(result, before, after);
  }

  /** Executes one statement as root. */
  async query(sql: string): Promise<void> {
    await this.#site.connection.query(sql);
  }

  /** Switches the flush at each commit, so that data is prepared faster than it is measured. */
  async setDurable(isDurable: boolean): Promise<void> {
    const value = isDurable ? 1 : 0;
    for (const name of ['sync_binlog', 'innodb_flush_log_at_trx_commit']) {
      const sql = `SET GLOBAL ${name} = ${value}`;
      await Promise.all([this.#site.queryEach(sql), this.#group?.queryEach(sql)]);
    }
  }

  /** Stops all services and MySQL. */
  async close(): Promise<void> {
    await Promise.all([...this.#targets.values()].map((target) => target.stop()));
    await Promise.all([this.#site.stop(), this.#group?.stop()]);
  }

  #siteOf(name: TargetName): Site {
    return name === 'group' || name === 'before' ? this.#group ?? this.#site : this.#site;
  }

  async #read(target: Target): Promise<Reading> {
    const { connection, processIds } = this.#siteOf(target.name);
    const [node, ...servers] = await Promise.all(
      [target.processId, ...processIds()].map(readUsage));
    const cpuUs = servers.reduce((sum, usage) => sum + usage.cpuUs, 0);
    return { node: node!, mysqld: { cpuUs }, counters: await readCounters(connection) };
  }
}

/** Starts MySQL, and a group if the options ask for one, and opens a lab on them. */
export async function openLab(options: LabOptions, signal: AbortSignal): Promise<Lab> {
  const site = await openServer(signal);
  try {
    return new Lab(site, options.isGroup ? await openGroup(signal) : null, options, signal);
  } catch (error) {
    await site.stop();
    throw error;
  }
}

async function readCounters(connection: Connection): Promise<Counters> {
  const [rows] = await connection.query<RowDataPacket[]>(`SHOW GLOBAL STATUS WHERE
    Variable_name IN ('Questions', 'Com_commit', 'Innodb_os_log_written', 'Innodb_data_written')`);
  const values = new Map(rows.map((row) => [String(row.Variable_name), Number(row.Value)]));
  const [logs] = await connection.query<RowDataPacket[]>('SHOW BINARY LOGS');
  return {
    statements: values.get('Questions') ?? 0,
    commits: values.get('Com_commit') ?? 0,
    redoBytes: values.get('Innodb_os_log_written') ?? 0,
    binlogBytes: logs.reduce((sum, log) => sum + Number(log.File_size), 0),
    dataBytes: values.get('Innodb_data_written') ?? 0,
  };
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
    residentBytes: after.node.residentBytes,
  };
}
