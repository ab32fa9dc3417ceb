/**
 * A bounded connection pool. Callers queue in FIFO order, limited by queue length and by a
 * deadline. A connection is released after COMMIT or ROLLBACK, or destroyed.
 */
import type { Deadline } from './clock.ts';
import type { Connection } from './connection.ts';
import { DEADLOCK_ERRNO, Unavailable } from './errors.ts';
import type { StatementError } from './errors.ts';

/** A longer queue could not be served within the deadlines of its callers. */
const WAITERS_MAX = 4096;

type Waiter = { take: (connection: Connection) => void; fail: (error: unknown) => void };

export class ConnectionPool {
  /** How many connections may exist at a time. */
  readonly size: number;
  readonly counts = new DbCounts();
  readonly #open: () => Promise<Connection>;
  readonly #idle: Connection[] = [];
  readonly #waiters: Set<Waiter> = new Set();
  readonly #busy: Set<Connection> = new Set();
  #opening = 0;
  #closed = false;

  /** @param open opens a connection that is set up; its errors reach the caller of acquire */
  constructor(open: () => Promise<Connection>, size: number) {
    this.#open = open;
    this.size = size;
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
   * Waits for a connection.
   *
   * @throws Unavailable when none is free by the deadline, the queue is full, the pool is closed,
   *   or the server cannot be reached
   */
  async acquire(deadline: Deadline): Promise<Connection> {
    if (this.#closed) throw new Unavailable('the pool is closed');
    if (deadline.isOver) throw new Unavailable('no connection became free in time');
    const connection = this.#takeIdle();
    if (connection !== null) return connection;
    const isFull = this.#idle.length + this.#busy.size + this.#opening >= this.size;
    if (isFull && this.#waiters.size >= WAITERS_MAX) {
      throw new Unavailable('too many callers wait for a connection');
    }
    return new Promise((resolve, reject) => {
      const waiter = this.#createWaiter(deadline, resolve, reject);
      if (isFull) this.#waiters.add(waiter);
      else this.#openNew().then(waiter.take, waiter.fail);
    });
  }

  /** Takes a connection back. A destroyed one makes room for a new one. */
  release(connection: Connection): void {
    this.#busy.delete(connection);
    if (this.#closed || connection.isDestroyed()) connection.destroy();
    else this.#idle.push(connection);
    this.#serveNextWaiter();
  }

  /** Closes idle connections now and busy ones on release; acquire fails from now on. */
  close(): void {
    this.#closed = true;
    for (const connection of this.#idle.splice(0)) connection.destroy();
    for (const waiter of this.#waiters) waiter.fail(new Unavailable('the pool is closed'));
    this.#waiters.clear();
  }

  #takeIdle(): Connection | null {
    // The connection used last is the most likely to be alive, and its caches are warm.
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
      // After a failed open the next waiter must try, or it would wait until its deadline.
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

  /** A waiter leaves the queue at its deadline; a later connection goes to the next waiter. */
  #createWaiter(
    deadline: Deadline,
    resolve: (connection: Connection) => void,
    reject: (error: unknown) => void,
  ): Waiter {
    let hasTimedOut = false;
    const stopWaiting = deadline.onEnd(() => {
      hasTimedOut = true;
      this.#waiters.delete(waiter);
      reject(new Unavailable('no connection became free in time'));
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

class DbCounts {
  retries = 0;
  deadlocks = 0;
  /** Commits without an answer, and how many of them a commit probe found committed or not. */
  unanswered = 0;
  committed = 0;
  rolledBack = 0;

  countFailure({ errno }: StatementError): void {
    if (errno === DEADLOCK_ERRNO) this.deadlocks += 1;
  }

  countSettled(wasCommitted: boolean): boolean {
    if (wasCommitted) this.committed += 1;
    else this.rolledBack += 1;
    return wasCommitted;
  }
}
