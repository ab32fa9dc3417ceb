/**
 * Finds the primary among the hosts of one database, and watches it. Each server says itself
 * whether it takes writes and has the majority of its group, so nothing in front needs to know.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from './clock.ts';
import {
  ask, askOnce, createServer, firstPrimary, openBare, toNoPrimary,
} from './checks/health.ts';
import type { Answer, Asked, Server } from './checks/health.ts';
import { areSplit, faultOf, isPrimary } from './checks/inspect.ts';
import type { Role } from './checks/inspect.ts';
import { openConnection } from './connection.ts';
import type { Connection, DatabaseSettings } from './connection.ts';
import { isLimitReached, NoPrimary } from './errors.ts';
import type { PrimaryFault } from './errors.ts';
import { PrimaryCounts, primaryFamilies } from './metrics.ts';
import type { Family } from '../metrics/families.ts';
import type { ConnectionPool } from './pool.ts';
import { SESSION_SETUP_SQL } from './session.ts';

export type PrimaryEvent =
  | Readonly<{ event: 'database_moved'; from: string; to: string }>
  | Readonly<{ event: 'database_split'; hosts: readonly string[] }>;

/** Between two searches. A planned move of the primary takes about 20 ms. */
const SEARCH_PAUSE_MS = 50;

/** Opening waits this long for the next primary after a loss. An election takes longer. */
const GRACE_MS = 2000;

/** A session is set up and asked in this time. */
const OPEN_MS = 2000;

const WATCH_PAUSE_MS = 250;
const WATCH_ASK_MS = 700;

/** Two primaries without a group are a mistake of an operator, so they are looked for rarely. */
const COMPARE_PAUSE_MS = 3000;

const SPLIT = 'two hosts take writes';

/** The connections that a server allows belong to requests: the watch pauses at their limit. */
const YIELD_MS = 30_000;

export class Primary {
  readonly #counts = new PrimaryCounts();
  readonly #servers: readonly Server[];
  readonly #only: Server | null;
  readonly #setUpSql: string;
  readonly #onEvent: (event: PrimaryEvent) => void;
  readonly #pools = new Set<ConnectionPool>();
  readonly #serverOf = new WeakMap<Connection, Server>();
  /** Where sessions are opened; null while no host is known to be the primary. */
  #current: Server | null = null;
  /** The primary of the sessions that exist. */
  #last: Server | null = null;
  #hasSessions = false;
  /** Said in a search that it is the primary, and in a session that it is not. */
  #suspect: Server | null = null;
  #fault: PrimaryFault = 'database';
  #lostAtMs = -Infinity;
  #searching: Promise<Server> | null = null;
  /** Ends the search: the primary became known otherwise. */
  #endSearch: (found: Server) => void = () => {};
  #searchedAtMs = -Infinity;
  /** Counts the renewals: the opening of a session ends that began before the latest one. */
  #renewals = 0;
  #watched: Readonly<{ server: Server; connection: Connection }> | null = null;
  #yieldsUntilMs = -Infinity;
  #comparing: Promise<void> | null = null;
  #comparedAtMs = -Infinity;
  /** `suspected` is compared once more before it counts. */
  #split: 'no' | 'suspected' | 'yes' = 'no';
  #isStopped = false;

  /** @param servers the hosts of one database, at least one */
  constructor(
    servers: readonly DatabaseSettings[],
    setUpSql: string = SESSION_SETUP_SQL,
    onEvent: (event: PrimaryEvent) => void = () => {},
  ) {
    this.#servers = servers.map(createServer);
    this.#only = servers.length === 1 ? this.#servers[0]! : null;
    this.#setUpSql = setUpSql;
    this.#onEvent = onEvent;
  }

  /** Why there is no primary; null while there is one. */
  get fault(): PrimaryFault | null {
    return this.#current === null ? this.#fault : null;
  }

  families(): Family[] {
    return primaryFamilies(this.#counts, this.#servers.map((server) =>
      [server.label, server === this.#current]));
  }

  /** Renews a pool whose connections come from `open` when the primary is lost or moves. */
  serve(pool: ConnectionPool): void {
    this.#pools.add(pool);
    pool.onLimit = () => this.#yield();
    pool.onMoved = (connection) => {
      if (this.#current === null || this.#serverOf.get(connection) !== this.#current) return;
      this.#lose('read_only');
      this.#renew();
    };
  }

  /** The settings of the primary, which is asked unless it is known or alone; throws NoPrimary. */
  async find(): Promise<DatabaseSettings> {
    return (this.#current ?? await this.#find()).settings;
  }

  /**
   * Opens a session on the primary, which says again that it is the primary. Waits for the next
   * primary for a moment when one was lost.
   *
   * @throws Unavailable
   */
  async open(): Promise<Connection> {
    const renewals = this.#renewals;
    for (;;) {
      try {
        return await this.#openOnce(renewals);
      } catch (error) {
        const waits = error instanceof NoPrimary && error.fault !== 'split'
          && renewals === this.#renewals && monotonicMs() - this.#lostAtMs < GRACE_MS;
        if (!waits) throw error;
      }
    }
  }

  /** Watches the primary until `stop`. */
  async watch(): Promise<void> {
    while (!this.#isStopped) {
      await this.#look().catch(() => {});
      await delay(WATCH_PAUSE_MS, null, { ref: false });
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#dropWatched();
  }

  async #openOnce(renewals: number): Promise<Connection> {
    const server = this.#current ?? await this.#find();
    if (renewals !== this.#renewals) throw new NoPrimary('database', 'the primary has moved');
    let asked: Asked;
    try {
      asked = await ask(openConnection(server.settings, this.#setUpSql), server, OPEN_MS);
    } catch (error) {
      if (this.#only !== null || isLimitReached(error)) throw error;
      if (this.#current === server) this.#lose('database');
      throw new NoPrimary('database', `${server.label}: ${(error as Error).message}`, error);
    }
    const { connection, role } = asked;
    if (isPrimary(role) && this.#split !== 'yes' && (this.#current ?? server) === server) {
      this.#serverOf.set(connection, server);
      this.#suspect = null;
      this.#hasSessions = true;
      if (this.#current === null) this.#settle(server);
      return connection;
    }
    connection.destroy();
    if (this.#split === 'yes') throw new NoPrimary('split', SPLIT);
    if (!isPrimary(role)) {
      this.#suspect = server;
      this.#dropWatched();
      this.#refuse(server, role);
    }
    throw toNoPrimary([{ server, role, error: null }]);
  }

  /** One search at a time, for all who want a session. */
  #find(): Promise<Server> {
    if (this.#only !== null && this.#fault === 'database') return Promise.resolve(this.#only);
    this.#searching ??= this.#search().finally(() => { this.#searching = null; });
    return this.#searching;
  }

  async #search(): Promise<Server> {
    await delay(Math.max(0, this.#searchedAtMs + SEARCH_PAUSE_MS - monotonicMs()));
    if (this.#split === 'yes') throw new NoPrimary('split', SPLIT);
    const startedAtMs = monotonicMs();
    const asked = this.#servers.map((server) => ({ server, answer: askOnce(server) }));
    const trusted = asked.filter(({ server }) => server !== this.#suspect);
    const known = new Promise<Server>((resolve) => { this.#endSearch = resolve; });
    const first = firstPrimary(trusted).then((one) => one ?? firstPrimary(asked));
    const found = await Promise.race([known, first]);
    this.#searchedAtMs = monotonicMs();
    this.#counts.searchSeconds.observe((this.#searchedAtMs - startedAtMs) / 1000);
    if (found !== null) return this.#settle(found);
    const answers = await Promise.all(asked.map(({ answer }) => answer));
    for (const { server, role } of answers) if (role !== null) this.#refuse(server, role);
    const failure = toNoPrimary(answers);
    // A server that allows no further connection is there, and has not said that it was demoted.
    if (this.#current !== null && !isLimitReached(failure)) this.#lose(failure.fault);
    this.#fault = failure.fault;
    throw this.#only !== null && failure.fault === 'database' ? failure.cause : failure;
  }

  /** @throws NoPrimary when a split was found after the server was asked */
  #settle(server: Server): Server {
    if (this.#split === 'yes') throw new NoPrimary('split', SPLIT);
    const from = this.#last;
    [this.#current, this.#last] = [server, server];
    this.#endSearch(server);
    if (from === null || from === server) return server;
    this.#counts.moves += 1;
    this.#onEvent({ event: 'database_moved', from: from.label, to: server.label });
    this.#renew();
    return server;
  }

  #lose(fault: PrimaryFault): void {
    this.#current = null;
    this.#fault = fault;
    this.#lostAtMs = monotonicMs();
  }

  /** The sessions of a server that says no go at once: what they read may be stale. */
  #refuse(server: Server, role: Role): void {
    if (this.#current === server) this.#lose(faultOf([role]));
    else if (this.#current === null) this.#fault = faultOf([role]);
    if (this.#last === server && this.#hasSessions) this.#renew();
  }

  #renew(): void {
    if (this.#pools.size === 0) return;
    this.#hasSessions = false;
    this.#renewals += 1;
    for (const pool of this.#pools) pool.renew();
  }

  async #look(): Promise<void> {
    const now = monotonicMs();
    if (now < this.#yieldsUntilMs && this.#current !== null) return;
    if (this.#only === null && (this.#split !== 'no'
      || now - this.#comparedAtMs >= COMPARE_PAUSE_MS)) {
      this.#comparing ??= this.#compare().finally(() => { this.#comparing = null; });
    }
    if (this.#split === 'yes') return;
    // The last primary is asked on, without a login: a group may get its majority back.
    const server = this.#current ?? this.#watched?.server ?? this.#only ?? await this.#find();
    const { role, error } = await this.#askWatched(server);
    if (isPrimary(role)) {
      if (this.#current === null) this.#settle(server);
    } else if (role !== null) {
      this.#refuse(server, role);
      if (this.#only === null) this.#find().catch(() => {});
    } else if (isLimitReached(error)) this.#yield();
    // A slow disk must not cost the sessions: they are renewed when another host is the primary.
    else if (this.#only === null) await this.#find();
    else if (this.#current === null) this.#fault = 'database';
  }

  async #askWatched(server: Server): Promise<Answer> {
    if (this.#watched?.server !== server) this.#dropWatched();
    const session = this.#watched?.connection;
    try {
      const opening = session === undefined ? openBare(server) : Promise.resolve(session);
      const { connection, role } = await ask(opening, server, WATCH_ASK_MS);
      this.#watched = { server, connection };
      if (this.#isStopped) this.#dropWatched();
      return { server, role, error: null };
    } catch (error) {
      this.#watched = null;
      return { server, role: null, error };
    }
  }

  #dropWatched(): void {
    this.#watched?.connection.destroy();
    this.#watched = null;
  }

  #yield(): void {
    this.#yieldsUntilMs = monotonicMs() + YIELD_MS;
    this.#dropWatched();
  }

  /** Finds two hosts that take writes and whose data diverge. */
  async #compare(): Promise<void> {
    const answers = await Promise.all(this.#servers.map(askOnce));
    this.#comparedAtMs = monotonicMs();
    if (!areSplit(answers.flatMap(({ role }) => role ?? []))) {
      if (this.#split === 'yes') this.#fault = 'database';
      this.#split = 'no';
    } else if (this.#split === 'no') this.#split = 'suspected';
    else if (this.#split === 'suspected') {
      this.#split = 'yes';
      this.#lose('split');
      const hosts = answers.flatMap(({ server, role }) => (isPrimary(role) ? server.label : []));
      this.#onEvent({ event: 'database_split', hosts });
      this.#renew();
    }
  }
}
