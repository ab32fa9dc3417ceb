/** What mysqld spends on each kind of statement, and waits for, by its performance schema. */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';

/** A kind of statement: how often it ran, and microseconds in all. */
export type StatementTime = Readonly<{
  label: string;
  count: number;
  cpuUs: number;
  wallUs: number;
}>;

/** Flushes of a kind of file to the disk. */
export type FlushTime = Readonly<{ file: string; count: number; wallUs: number }>;

const PS_PER_US = 1e6;

const OUR_TABLES = /`(otps|ip_\w+|idempotency_keys|limit_hits|outbox)`/;

const STATEMENTS_SQL = `SELECT digest_text AS text, count_star AS count,
    sum_cpu_time AS cpu, sum_timer_wait AS wall
  FROM performance_schema.events_statements_summary_by_digest WHERE schema_name = ?`;
const FLUSHES_SQL = `SELECT event_name AS name, count_misc AS count, sum_timer_misc AS wall
  FROM performance_schema.file_summary_by_event_name
  WHERE event_name IN ('wait/io/file/innodb/innodb_log_file', 'wait/io/file/sql/binlog')`;

/** Reads the performance schema of one server. Needs MySQL 8.0.28, which counts CPU. */
export class StatementReader {
  readonly #session: Connection;

  private constructor(session: Connection) {
    this.#session = session;
  }

  /** Connects to the server behind a socket, and makes it count CPU. */
  static async open(socketPath: string): Promise<StatementReader> {
    const session = await mysql.createConnection({ socketPath, user: 'root' });
    await session.query(`UPDATE performance_schema.setup_consumers SET enabled = 'YES'
      WHERE name = 'events_statements_cpu'`);
    return new StatementReader(session);
  }

  /** Begins to count anew. */
  async reset(): Promise<void> {
    for (const table of ['events_statements_summary_by_digest', 'file_summary_by_event_name']) {
      await this.#session.query(`TRUNCATE performance_schema.${table}`);
    }
  }

  /** What was spent on the statements of a database since then, dearest first. */
  async statements(database: string): Promise<StatementTime[]> {
    const [rows] = await this.#session.query<RowDataPacket[]>(STATEMENTS_SQL, [database]);
    const byLabel = new Map<string, StatementTime>();
    for (const row of rows) {
      const label = labelOf(String(row.text));
      const { count = 0, cpuUs = 0, wallUs = 0 } = byLabel.get(label) ?? {};
      byLabel.set(label, {
        label, count: count + Number(row.count), cpuUs: cpuUs + Number(row.cpu) / PS_PER_US,
        wallUs: wallUs + Number(row.wall) / PS_PER_US,
      });
    }
    return [...byLabel.values()].sort((a, b) => b.cpuUs - a.cpuUs);
  }

  /** The flushes of all databases since then. */
  async flushes(): Promise<FlushTime[]> {
    const [rows] = await this.#session.query<RowDataPacket[]>(FLUSHES_SQL);
    return rows.map(({ name, count, wall }) => ({
      file: String(name).replace(/.*\//, ''),
      count: Number(count),
      wallUs: Number(wall) / PS_PER_US,
    }));
  }

  /** Closes the connection. */
  async close(): Promise<void> {
    await this.#session.end();
  }
}

/** `SELECT otps FOR UPDATE` for a digest such as SELECT … FROM `otps` … FOR UPDATE. */
function labelOf(text: string): string {
  const [verb = ''] = text.split(' ', 1);
  const [, table = text.includes('NOW') ? 'NOW' : ''] = OUR_TABLES.exec(text) ?? [];
  const isInspection = text.includes('`seconds_dead`');
  const how = isInspection ? 'for the sweep' : /FOR UPDATE/.test(text) ? 'FOR UPDATE' : '';
  return [verb, table, how].filter((word) => word !== '').join(' ');
}
