/**
 * A bounded set of sessions. Who asks for one waits in line, in order, up to a bound of waiters
 * and of time. A session comes back only after COMMIT or ROLLBACK, or does not come back.
 */
import type { Connection } from './connection.ts';
import type { Deadline } from './deadline.ts';
import { DEADLOCK_ERRNO, Unavailable } from './errors.ts';
import type { StatementError } from './errors.ts';

/** More waiters than this cannot be served within their deadline anyway. */
const WAITERS_MAX = 4096;

type Waiter = { take: (connection: Connection) => void; fail: (error: unknown) => void };

/** Hands out sessions, at most `size` at a time. */
export class ConnectionPool {
  /** How many sessions may exist at a time. */
  readonly size: number;
  /** Of the transactions on its sessions. */
  readonly counts = new DbCounts();
  readonly #open: () => Promise<Connection>;
  readonly #idle: Connection[] = [];
  readonly #waiters: Set<Waiter> = new Set();
  readonly #busy: Set<Connection> = new Set();
  #opening = 0;
  #closed = false;

  /**
   * @param open opens a session, set up and ready; its errors reach whoever asked
   * @param size how many sessions may exist at a time
   */
  constructor(open: () => Promise<Connection>, size: number) {
    this.#open = open;
    this.size = size;
  }

  /** How many sessions are lent, for tests that look for a leak. */
  get busyCount(): number {
    return this.#busy.size;
  }

  /** How many sessions wait for somebody to lend them to. */
  get idleCount(): number {
    return this.#idle.length;
  }

  /** How many sessions are being opened. */
  get openingCount(): number {
    return this.#opening;
  }

  /** How many wait for a session. */
  get waitingCount(): number {
    return this.#waiters.size;
  }

  /**
   * Lends a session.
   *
   * @throws Unavailable when none is free by the deadline, the line is too long, the server is
   *   away, or the pool is closed
   */
  async acquire(deadline: Deadline): Promise<Connection> {
    if (this.#closed) throw new Unavailable('the pool is closed');
    if (deadline.isOver) throw new Unavailable('no connection was to be had in time');
    const connection = this.#takeIdle();
    if (connection !== null) return connection;
    const isFull = this.#idle.length + this.#busy.size + this.#opening >= this.size;
    if (isFull && this.#waiters.size >= WAITERS_MAX) {
      throw new Unavailable('too many wait for a connection');
    }
    return new Promise((resolve, reject) => {
      const waiter = this.#createWaiter(deadline, resolve, reject);
      if (isFull) this.#waiters.add(waiter);
      else this.#openNew().then(waiter.take, waiter.fail);
    });
  }

  /** Takes a session back. One that was destroyed makes room for a new one. */
  release(connection: Connection): void {
    this.#busy.delete(connection);
    if (this.#closed || connection.isDestroyed()) connection.destroy();
    else this.#idle.push(connection);
    this.#serveNextWaiter();
  }

  /** Closes idle sessions now and lent ones as they come back; nothing is lent any more. */
  close(): void {
    this.#closed = true;
    for (const connection of this.#idle.splice(0)) connection.destroy();
    for (const waiter of this.#waiters) waiter.fail(new Unavailable('the pool is closed'));
    this.#waiters.clear();
  }

  #takeIdle(): Connection | null {
    // The last one used is the likeliest to be alive, and its caches are warm.
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined) return null;
      if (connection.isDestroyed()) continue;
      this.#busy.add(connection);
      return connection;
    }
  }

  async #openNew(): Promise<Connection> {
    this.#opening += 1;
    try {
      const connection = await this.#open();
      this.#busy.add(connection);
      return connection;
    } finally {
      this.#opening -= 1;
      // When opening failed, whoever waits behind must try for itself and not wait in vain.
      if (this.#idle.length + this.#busy.size + this.#opening < this.size) {
        this.#serveNextWaiter();
      }
    }
  }

  #serveNextWaiter(): void {
    const waiter = this.#waiters.values().next().value;
    if (waiter === undefined) return;
    const connection = this.#takeIdle();
    if (connection === null && this.#busy.size + this.#opening >= this.size) return;
    this.#waiters.delete(waiter);
    if (connection !== null) waiter.take(connection);
    else this.#openNew().then(waiter.take, waiter.fail);
  }

  /** Who waits gives up at the deadline; a session that comes too late goes to the next. */
  #createWaiter(
    deadline: Deadline,
    resolve: (connection: Connection) => void,
    reject: (error: unknown) => void,
  ): Waiter {
    let hasTimedOut = false;
    const stopWaiting = deadline.onEnd(() => {
      hasTimedOut = true;
      this.#waiters.delete(waiter);
      reject(new Unavailable('no connection was to be had in time'));
    });
    const waiter: Waiter = {
      take: (connection) => {
        if (hasTimedOut) return this.release(connection);
        stopWaiting();
        resolve(connection);
      },
      fail: (error) => {
        if (!hasTimedOut) stopWaiting();
        reject(error);
      },
    };
    return waiter;
  }
}

/** The counts of one pool. */
class DbCounts {
  /** Transactions that were run again as a whole. */
  retries = 0;
  deadlocks = 0;
  /** Commits that were not answered, and what was found out about them in time. */
  unanswered = 0;
  committed = 0;
  rolledBack = 0;

  /** Counts what a transaction ended with that may be run again. */
  countFailure({ errno }: StatementError): void {
    if (errno === DEADLOCK_ERRNO) this.deadlocks += 1;
  }

  /** Counts a commit without an answer that was found out about. Gives what it is given. */
  countSettled(wasCommitted: boolean): boolean {
    if (wasCommitted) this.committed += 1;
    else this.rolledBack += 1;
    return wasCommitted;
  }
}
