/**
 * npm run profile: where the time of a request goes, in Node by layer, in mysqld by statement and
 * in waiting. Prints a page and writes the same page to bench/results/.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { build, print, RESULTS, stopSignal } from './build.ts';
import { openLab } from './lab.ts';
import type { Lab, Measured } from './lab.ts';
import { describeMachine, machineLine } from './machine.ts';
import { warmUp } from './rounds.ts';
import { markdown } from './table.ts';
import type { TargetName } from './target.ts';
import { WORKLOADS } from './workloads.ts';

const CONNECTIONS = 64;
const SECONDS = 10;

/** Above the rate of any service; codes to verify take time to prepare. */
const RATE_MAX = 12_000;
const VERIFY_RATE_MAX = 6_000;

/** `bare` shows the cost of node:http alone. */
const CASES: readonly (readonly [workload: string, target: TargetName])[] =
  [['request', 'otpd'], ['verify', 'otpd'], ['refusal', 'otpd'], ['request', 'bare']];

/** Statements under this cost per request are left out. */
const SHOWN_MIN_US = 0.5;

type Order = Readonly<{ connections: number; seconds: number }>;

/** A period of the monotonic clock, which both V8 and this process read. */
type Period = Readonly<{ fromUs: number; toUs: number }>;

/** A statement or a file: how often, and microseconds in total. */
type Cost = Readonly<{ name: string; count: number; cpuUs: number; wallUs: number }>;

type Profiled = Readonly<{
  name: string;
  target: TargetName;
  period: Period;
  measured: Measured;
  /** Of all cores during the load. */
  idleShare: number;
  statements: readonly Cost[];
  flushes: readonly Cost[];
}>;

/** What `node --cpu-prof` writes: a call tree, and the leaf that ran at each sample. */
type CpuProfile = Readonly<{
  nodes: readonly Readonly<{
    id: number;
    callFrame: Readonly<{ functionName: string; url: string }>;
    children?: readonly number[];
  }>[];
  startTime: number;
  samples: readonly number[];
  /** Microseconds before each sample. */
  timeDeltas: readonly number[];
}>;

/** Microseconds in functions of a layer, and in functions of Node that the layer called. */
type LayerTime = Readonly<{ own: number; called: number }>;

/** The layer of a source file; null for Node's own. */
function layerOf(url: string): string | null {
  if (url.includes('/bench/dist/targets/')) return 'baseline';
  if (url.includes('/node_modules/mysql2/')) return 'mysql2';
  const match = /\/dist\/(?:(\w+)\/)?/.exec(url);
  return match === null ? null : `src/${match[1] ?? ''}`;
}

/** Frames that V8 reports for work outside of any function. */
const PSEUDO_FRAMES: ReadonlyMap<string, string> = new Map([
  ['(garbage collector)', 'garbage collection on the main thread'],
  ['(program)', 'outside JavaScript'],
]);

const NODE_ALONE = 'Node: parser, streams, event loop';

/** The samples of a period by layer. A function of Node counts for the layer that called it. */
function layerTimes(profile: CpuProfile, { fromUs, toUs }: Period): Map<string, LayerTime> {
  const { nodes, samples, timeDeltas, startTime } = profile;
  const parents = new Map(nodes.flatMap(({ id, children = [] }) =>
    children.map((child) => [child, id] as const)));
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const layers = new Map(nodes.map(({ id, callFrame }) => [id, layerOf(callFrame.url)]));
  const sums = new Map<string, LayerTime>();
  let now = startTime;
  samples.forEach((leaf, index) => {
    const elapsed = timeDeltas[index] ?? 0;
    now += elapsed;
    const { functionName = '' } = frames.get(leaf) ?? {};
    if (now < fromUs || now > toUs || functionName === '(idle)') return;
    let caller: number | undefined = leaf;
    while (caller !== undefined && layers.get(caller) === null) caller = parents.get(caller);
    const name = PSEUDO_FRAMES.get(functionName)
      ?? (caller === undefined ? NODE_ALONE : layers.get(caller)!);
    const { own, called } = sums.get(name) ?? { own: 0, called: 0 };
    sums.set(name, caller === undefined || caller === leaf
      ? { own: own + elapsed, called } : { own, called: called + elapsed });
  });
  return sums;
}

const PS_PER_US = 1e6;

/** Counting CPU needs MySQL 8.0.28. */
async function resetCosts(connection: Connection): Promise<void> {
  await connection.query(`UPDATE performance_schema.setup_consumers SET enabled = 'YES'
    WHERE name = 'events_statements_cpu'`);
  for (const table of ['events_statements_summary_by_digest', 'file_summary_by_event_name']) {
    await connection.query(`TRUNCATE performance_schema.${table}`);
  }
}

/** The costs since the reset, by name, the most expensive first. */
async function readCosts(
  connection: Connection,
  sql: string,
  nameOf: (text: string) => string,
): Promise<Cost[]> {
  const [rows] = await connection.query<RowDataPacket[]>(sql);
  const costs = new Map<string, Cost>();
  for (const row of rows) {
    const name = nameOf(String(row.text));
    const { count, cpuUs, wallUs } = costs.get(name) ?? { count: 0, cpuUs: 0, wallUs: 0 };
    costs.set(name, {
      name, count: count + Number(row.count), cpuUs: cpuUs + Number(row.cpu) / PS_PER_US,
      wallUs: wallUs + Number(row.wall) / PS_PER_US,
    });
  }
  return [...costs.values()].sort((a, b) => b.cpuUs - a.cpuUs);
}

const statementsOf = (database: string): string => `SELECT digest_text AS text,
    count_star AS count, sum_cpu_time AS cpu, sum_timer_wait AS wall
  FROM performance_schema.events_statements_summary_by_digest WHERE schema_name = '${database}'`;

const FLUSHES = `SELECT event_name AS text, count_misc AS count, 0 AS cpu, sum_timer_misc AS wall
  FROM performance_schema.file_summary_by_event_name
  WHERE event_name IN ('wait/io/file/innodb/innodb_log_file', 'wait/io/file/sql/binlog')`;

/** `SELECT otps FOR UPDATE` for the digest of such a statement. */
function statementName(text: string): string {
  const [verb = ''] = text.split(' ', 1);
  const [, table = ''] = /(?:FROM|INTO|UPDATE|JOIN) `(\w+)`/.exec(text) ?? [];
  return [verb, table, text.includes('FOR UPDATE') ? 'FOR UPDATE' : '']
    .filter((word) => word !== '').join(' ');
}

/** Idle time of all cores since boot. */
const idleMs = (): number => cpus().reduce((sum, { times }) => sum + times.idle, 0);

function profileFolder(lab: Lab, target: TargetName): string {
  return join(lab.server.folder, `cpu-prof-${target}`);
}

async function profileOne(
  lab: Lab,
  connection: Connection,
  [workload, name]: (typeof CASES)[number],
  { connections, seconds }: Order,
): Promise<Profiled> {
  const nodeArguments = ['--cpu-prof', `--cpu-prof-dir=${profileFolder(lab, name)}`];
  const target = await lab.target(name, { nodeArguments });
  const load = { target, connections, seconds };
  await warmUp(lab, target);
  const { requests, needsCodes } = WORKLOADS.get(workload)!;
  const rate = needsCodes ? VERIFY_RATE_MAX : RATE_MAX;
  const order = { ...load, requests: await requests(lab, target, rate * seconds) };
  await resetCosts(connection);
  const nowUs = (): number => Number(process.hrtime.bigint()) / 1e3;
  const [idleBefore, fromUs] = [idleMs(), nowUs()];
  const measured = await lab.measure(order);
  const toUs = nowUs();
  const idleShare = (idleMs() - idleBefore) / ((toUs - fromUs) / 1000) / cpus().length;
  print(`${workload} ${name}: ${measured.perSecond.toFixed(0)}/s`);
  return {
    name: name === 'otpd' ? workload : name, target: name, period: { fromUs, toUs }, measured,
    idleShare,
    statements: await readCosts(connection, statementsOf(target.databaseName), statementName),
    flushes: await readCosts(connection, FLUSHES, (text) => text.replace(/.*\//, '')),
  };
}

type Row = (name: string, cell: (profiled: Profiled) => string) => string[];

function overview(row: Row): string[][] {
  return [
    row('requests/s', ({ measured }) => measured.perSecond.toFixed(0)),
    row('p50 ms', ({ measured }) => (measured.p50Us / 1000).toFixed(1)),
    row('CPU µs, Node + mysqld', ({ measured: { nodeCpuUs, mysqldCpuUs } }) =>
      `${nodeCpuUs.toFixed(0)} + ${mysqldCpuUs.toFixed(0)}`),
    row('requests per commit', ({ measured: { commits } }) =>
      (commits === 0 ? '' : (1 / commits).toFixed(0))),
    row('cores idle', ({ idleShare }) => `${(100 * idleShare).toFixed(0)} %`),
  ];
}

function layerRows(row: Row, times: ReadonlyMap<Profiled, Map<string, LayerTime>>): string[][] {
  const layers = new Set([...times.values()].flatMap((sums) => [...sums.keys()]).sort());
  const rows = [...layers].map((layer) => row(layer, (profiled) => {
    const time = times.get(profiled)?.get(layer);
    return time === undefined ? '' : [time.own, time.called].filter((us) => us > 0)
      .map((us) => (us / profiled.measured.requests).toFixed(0)).join(' + ');
  }));
  return [...rows, row('other threads: compiler, collector, profiler', (profiled) => {
    const { measured } = profiled;
    const main = [...times.get(profiled)?.values() ?? []]
      .reduce((sum, { own, called }) => sum + own + called, 0);
    return Math.max(0, measured.nodeCpuUs - main / measured.requests).toFixed(0);
  })];
}

function statementRows(row: Row, profiles: readonly Profiled[]): string[][] {
  const perRequest = ({ statements, measured }: Profiled, name: string): number =>
    (statements.find((one) => one.name === name)?.cpuUs ?? 0) / measured.requests;
  const names = new Set(profiles.flatMap((profiled) => profiled.statements
    .map(({ name }) => name).filter((name) => perRequest(profiled, name) >= SHOWN_MIN_US)));
  const rows = [...names].map((name) => row(name, (profiled) => {
    const us = perRequest(profiled, name);
    return us === 0 ? '' : us.toFixed(0);
  }));
  return [...rows, row('outside statements', ({ statements, measured }) => {
    const counted = statements.reduce((sum, { cpuUs }) => sum + cpuUs, 0);
    return Math.max(0, measured.mysqldCpuUs - counted / measured.requests).toFixed(0);
  })];
}

function waitRows(row: Row): string[][] {
  const meanMs = (costs: readonly Cost[], name: string): string => {
    const cost = costs.find((one) => one.name === name);
    return cost === undefined || cost.count === 0 ? ''
      : (cost.wallUs / cost.count / 1000).toFixed(1);
  };
  return [
    row('COMMIT', ({ statements }) => meanMs(statements, 'COMMIT')),
    ...['binlog', 'innodb_log_file'].map((file) =>
      row(`a flush of ${file}`, ({ flushes }) => meanMs(flushes, file))),
  ];
}

function composePage(lab: Lab, order: Order, profiles: readonly Profiled[]): string {
  const times = new Map(profiles.map((profiled) => {
    const folder = profileFolder(lab, profiled.target);
    const text = readFileSync(join(folder, readdirSync(folder)[0] ?? ''), 'utf8');
    return [profiled, layerTimes(JSON.parse(text) as CpuProfile, profiled.period)];
  }));
  const row: Row = (name, cell) => [name, ...profiles.map(cell)];
  const table = (rows: string[][]): string => markdown(row('', ({ name }) => name), rows);
  return `# Where the time goes\n
${machineLine(describeMachine(lab))}\n
${order.connections} connections for ${order.seconds} s each.\n\n${table(overview(row))}
## Node's main thread, µs per request\n
Functions of a layer + functions of Node that the layer called.\n\n${table(layerRows(row, times))}
## mysqld, µs of CPU per request\n\n${table(statementRows(row, profiles))}
## Waiting, ms each\n\n${table(waitRows(row))}`;
}

function readOrder(): Order {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({ options: { connections: text, seconds: text } });
  const connections = Number(values.connections ?? CONNECTIONS);
  const seconds = Number(values.seconds ?? SECONDS);
  const isValid = [connections, seconds].every((number) => Number.isInteger(number) && number >= 1);
  if (isValid) return { connections, seconds };
  throw new Error('usage: npm run profile -- [--connections N] [--seconds N], each at least 1');
}

async function main(signal: AbortSignal): Promise<void> {
  const order = readOrder();
  await build();
  const lab = await openLab({ poolSize: 32, load: null, baseFolder: null }, signal);
  try {
    const { socketPath } = lab.server;
    const connection = await mysql.createConnection({ socketPath, user: 'root' });
    const profiles: Profiled[] = [];
    for (const one of CASES) profiles.push(await profileOne(lab, connection, one, order));
    await connection.end();
    // Node writes the profile when the process exits.
    for (const [, name] of CASES) await (await lab.target(name)).stop();
    const page = composePage(lab, order, profiles);
    mkdirSync(RESULTS, { recursive: true });
    writeFileSync(join(RESULTS, 'profile.md'), page);
    print(`\n${page}`);
  } finally {
    await lab.close();
  }
}

await main(stopSignal());
