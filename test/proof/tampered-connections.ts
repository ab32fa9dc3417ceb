/** Real connections whose statements a test can make fail, and a table for transactions. */
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import type { Row, Value } from '../../src/db/query.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import type { Transaction } from '../../src/db/transaction.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';

/** Wraps a statement; the caller of the statement gets what the wrapper throws. */
export type Tamper = <T>(name: string, connection: Connection, proceed: () =>
  Promise<T>) => Promise<T>;

/** Statements of one round trip share one name: their names, separated by spaces. */
export function includes(name: string, statement: string): boolean {
  return name.split(' ').includes(statement);
}

export function isCommit(name: string): boolean {
  return includes(name, 'commit');
}

/** Runs one statement in a transaction. */
export async function query(
  tx: Transaction,
  name: string,
  sql: string,
  values: readonly Value[],
): Promise<readonly Row[]> {
  return (await tx.read(rowsBy(name, sql, values)))[0];
}

/** A statement that returns its rows. */
export function rowsBy(name: string, sql: string, values: readonly Value[]) {
  return { name, sql, values, read: (rows: readonly Row[]) => rows };
}

/** A database with the table `notes (id, text)`, and pools with tampered connections. */
export type Fixture = Readonly<{
  database: TestDatabase;
  /** Sets the wrapper for the statements of all connections. */
  tamper: (tamper: Tamper | null) => void;
  /** A pool that closePools closes. It follows the clock of the database. */
  pool: (size: number) => ConnectionPool;
  /** Closes all pools and removes the wrapper; throws when a connection was not released. */
  closePools: () => void;
  /** A connection outside all pools. */
  connect: () => Promise<Connection>;
  /** The committed ids of notes, in order. */
  ids: () => Promise<number[]>;
}>;

export async function createFixture(): Promise<Fixture> {
  const database = await createTestDatabase();
  await database.query('CREATE TABLE notes (id INT PRIMARY KEY, text VARCHAR(5) NOT NULL)');
  let current: Tamper | null = null;
  const open = async (): Promise<Connection> => {
    const connection = database.clock.wrap(await openConnection(database.settings));
    const guard = <T>(name: string, proceed: () => Promise<T>): Promise<T> =>
      (current === null ? proceed() : current(name, connection, proceed));
    return {
      ...connection,
      run: (name, sql, values) => guard(name, () => connection.run(name, sql, values)),
      runAll: (name, statements) => guard(name, () => connection.runAll(name, statements)),
    };
  };
  const ids = async (): Promise<number[]> =>
    (await database.query('SELECT id FROM notes ORDER BY id')).map(({ id }) => id as number);
  const pools: ConnectionPool[] = [];
  const closePools = (): void => {
    current = null;
    const busy = pools.map(({ busyCount }) => busyCount).filter((count) => count > 0);
    for (const pool of pools.splice(0)) pool.close();
    if (busy.length > 0) throw new Error(`${busy.join()} connections were not released`);
  };
  const pool = (size: number): ConnectionPool => {
    const made = new ConnectionPool(open, size);
    pools.push(made);
    return made;
  };
  return {
    database,
    ids,
    pool,
    closePools,
    tamper: (tamper) => { current = tamper; },
    connect: () => openConnection(database.settings),
  };
}

/** The number of deadlocks since the start of the server. */
export async function countDeadlocks(database: TestDatabase): Promise<number> {
  const [row] = await database.query(
    "SELECT count AS n FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'",
  );
  return Number(row?.n);
}
