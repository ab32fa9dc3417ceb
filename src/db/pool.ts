/**
 * A bounded connection pool. Callers queue in FIFO order, limited by queue length and by a
 * deadline. A connection is released after COMMIT or ROLLBACK, or destroyed.
 */
import { Deadline } from './clock.ts';
import type { Connection } from './connection.ts';
import { isLimitReached, Unavailable } from './errors.ts';
import { LostConnections } from './lost-connections.ts';
import { DbCounts } from './metrics.ts';

/** A longer queue could not be served within the deadlines of its callers. */
const WAITERS_MAX = 4096;

/**
 * After a failure to open one connection, the pool opens others one at a time and with this pause:
 * a limit of the server or of the account is not overcome by trying harder.
 */
const REOPEN_PAUSE_MS = 200;

/** For the answer of a connection in use, when no further one can be opened. */
const BORROW_TIMEOUT_MS = 600;

type Waiter = { take: (connection: Connection) => void; fail: (error: unknown) => void };

export class ConnectionPool {
  /** How many connections may exist at a time; one more for as long as lost ones are looked for. */
  readonly size: number;
  readonly counts = new DbCounts();
  /** Called when the server or the account allows no further connection. */
  onLimit: () => void = () => {};
  /** Called with a connection whose server takes no writes. */
  onMoved: (connection: Connection) => void = () => {};
  readonly #open: () => Promise<Connection>;
  #idle: Connection[] = [];
  readonly #waiters: Set<Waiter> = new Set();
  readonly #busy: Set<Connection> = new Set();
  /** Connections that look for lost ones and are not busy. */
  readonly #borrowed: Set<Connection> = new Set();
  readonly #lost: LostConnections;
  /** Counts the calls of renew(): a connection of an earlier one must not come in. */
  #generation = 0;
  #opening = 0;
  /** Failures to open since the last success with which no caller has failed. */
  #unreported = 0;
  #failure: unknown = null;
  #pause: NodeJS.Timeout | null = null;
  #closed = false;

  /** @param open opens a connection that is set up */
  constructor(open: () => Promise<Connection>, size: number) {
    this.#open = open;
    this.size = size;
    this.#lost = new LostConnections({
      busy: this.#busy,
      borrow: (sinceMs) => this.#borrow(sinceMs),
      giveBack: (connection) => {
        this.#borrowed.delete(connection);
        this.release(connection);
      },
      distrust: (sinceMs) => this.#distrust(sinceMs),
    });
  }

  get busyCount(): number {
    return this.#busy.size;
  }

  get idleCount(): number {
    return this.#idle.length;
  }

  get openingCount(): number {
    return this.#opening;
  }

  get waitingCount(): number {
    return this.#waiters.size;
  }

  /**
   * Waits for a connection. While one lives, a failure to open another one fails nobody.
   *
   * @throws Unavailable when none is free by the deadline, the queue is full, the pool is closed,
   *   or no connection lives and none can be opened
   */
  async acquire(deadline: Deadline): Promise<Connection> {
    if (this.#closed) throw new Unavailable('the pool is closed');
    if (deadline.isOver) throw new Unavailable('no connection became free in time');
    const connection = this.#takeIdle();
    if (connection !== null) return connection;
    if (this.#waiters.size >= WAITERS_MAX) {
      throw new Unavailable('too many callers wait for a connection');
    }
    return new Promise((resolve, reject) => {
      this.#waiters.add(this.#createWaiter(deadline, resolve, reject));
      this.#openMissing();
    });
  }

  /** Takes a connection back. A destroyed one makes room for a new one. */
  release(connection: Connection): void {
    this.#busy.delete(connection);
    if (connection.isDestroyed()) this.#lost.onGivenUp(connection);
    this.#add(connection);
  }

  /** Closes idle connections now and busy ones on release; acquire fails from now on. */
  close(): void {
    this.#closed = true;
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.closeIdle();
    for (const waiter of this.#waiters) waiter.fail(new Unavailable('the pool is closed'));
    this.#waiters.clear();
  }

  closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.destroy();
  }

  /**
   * Gives up every connection, because another server is the primary. What they run fails as lost,
   * and is run again or settled on new connections.
   */
  renew(): void {
    this.#generation += 1;
    this.#opening = 0;
    this.#unreported = 0;
    this.#failure = null;
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.#pause = null;
    this.closeIdle();
    for (const connection of [...this.#busy, ...this.#borrowed]) connection.destroy();
    this.#openMissing();
  }

  get #living(): number {
    return this.#idle.length + this.#busy.size;
  }

  #takeIdle(): Connection | null {
    // The connection used last is the most likely to be alive, and its caches are warm.
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined) return null;
      if (connection.isDestroyed()) continue;
      this.#lend(connection);
      return connection;
    }
  }

  #lend(connection: Connection): void {
    this.#busy.add(connection);
    this.#lost.watch();
  }

  /** Gives a connection to the first waiter, or keeps it if there is room. */
  #add(connection: Connection): void {
    if (connection.isDestroyed()) return this.#openMissing();
    const isFull = this.#living + this.#opening >= this.size;
    if (this.#closed || isFull) return connection.destroy();
    const waiter = this.#waiters.size === 0 ? null : this.#shiftWaiter();
    if (waiter === null) {
      this.#idle.push(connection);
      return;
    }
    this.#lend(connection);
    waiter.take(connection);
  }

  #shiftWaiter(): Waiter {
    const waiter = this.#waiters.values().next().value!;
    this.#waiters.delete(waiter);
    return waiter;
  }

  /** Opens a connection for each waiter that has none coming, as far as there is room. */
  #openMissing(): void {
    while (this.#opening < this.#waiters.size && this.#living + this.#opening < this.size) {
      if (this.#pause !== null || (this.#unreported > 0 && this.#opening > 0)) return;
      void this.#openNew();
    }
  }

  async #openNew(): Promise<void> {
    const generation = this.#generation;
    this.#opening += 1;
    try {
      const connection = await this.#open();
      if (generation !== this.#generation) return connection.destroy();
      this.#opening -= 1;
      this.#unreported = 0;
      this.#failure = null;
      this.#add(connection);
    } catch (error) {
      if (generation !== this.#generation) return;
      this.#opening -= 1;
      this.#onFailure(error);
    }
    this.#openMissing();
  }

  /**
   * While a connection lives, the callers wait for it; while a limit is reached, for one that
   * others close. Without either, as many callers fail as failures were seen.
   */
  #onFailure(error: unknown): void {
    this.#unreported += 1;
    this.#failure = error;
    if (this.#closed) return;
    if (isLimitReached(error)) this.onLimit();
    if (this.#living > 0 || isLimitReached(error)) {
      this.#pause ??= setTimeout(() => {
        this.#pause = null;
        this.#openMissing();
      }, REOPEN_PAUSE_MS).unref();
    } else if (this.#opening === 0) {
      for (; this.#unreported > 0; this.#unreported -= 1) {
        if (this.#waiters.size > 0) this.#shiftWaiter().fail(error);
      }
    }
  }

  /** A connection that answers, for a look at those that do not; renew() gives it up, too. */
  async #borrow(sinceMs: number): Promise<Connection> {
    const newest = this.#idle.at(-1);
    if (newest !== undefined && newest.activity.heardAtMs > sinceMs && !newest.isDestroyed()) {
      this.#idle.pop();
      this.#borrowed.add(newest);
      return newest;
    }
    const generation = this.#generation;
    try {
      const connection = await this.#open();
      if (generation === this.#generation) {
        this.#borrowed.add(connection);
        return connection;
      }
      connection.destroy();
      throw new Unavailable('the primary has moved');
    } catch (error) {
      if (!isLimitReached(error)) throw error;
      const deadline = new Deadline(BORROW_TIMEOUT_MS);
      return this.acquire(deadline).finally(() => deadline.clear());
    }
  }

  #distrust(sinceMs: number): readonly Connection[] {
    const silent = this.#idle.filter(({ activity }) => activity.heardAtMs < sinceMs);
    if (silent.length === 0) return silent;
    this.#idle = this.#idle.filter(({ activity }) => activity.heardAtMs >= sinceMs);
    for (const connection of silent) connection.destroy();
    return silent;
  }

  /** A waiter leaves the queue at its deadline; a later connection goes to the next waiter. */
  #createWaiter(
    deadline: Deadline,
    resolve: (connection: Connection) => void,
    reject: (error: unknown) => void,
  ): Waiter {
    const stopWaiting = deadline.onEnd(() => {
      this.#waiters.delete(waiter);
      reject(new Unavailable('no connection became free in time', { cause: this.#failure }));
    });
    const waiter: Waiter = {
      take: (connection) => {
        stopWaiting();
        resolve(connection);
      },
      fail: (error) => {
        stopWaiting();
        reject(error);
      },
    };
    return waiter;
  }
}

/**
 * Runs work on a connection, which is destroyed after an error, and at the deadline if the work
 * still runs.
 */
export async function useConnection<T>(
  pool: ConnectionPool,
  deadline: Deadline,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await pool.acquire(deadline);
  const stopWatching = deadline.onEnd(() => connection.destroy());
  try {
    return await work(connection);
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    stopWatching();
    pool.release(connection);
  }
}

