/** What the server has done so far, by its own counters. */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';

/** Totals since the start of the server. */
export type Counters = Readonly<{
  statements: number;
  commits: number;
  redoBytes: number;
  binlogBytes: number;
  /** All that InnoDB gave to the disk: redo log, pages, doublewrite buffer. */
  dataBytes: number;
  receivedBytes: number;
}>;

/** Reads the counters of one server. */
export class CounterReader {
  readonly #session: Connection;

  constructor(session: Connection) {
    this.#session = session;
  }

  /** Connects to the server behind a socket. */
  static async open(socketPath: string): Promise<CounterReader> {
    return new CounterReader(await mysql.createConnection({ socketPath, user: 'root' }));
  }

  /** The totals now. The reading itself is counted: two statements. */
  async read(): Promise<Counters> {
    const [rows] = await this.#session.query<RowDataPacket[]>(`SHOW GLOBAL STATUS WHERE
      Variable_name IN ('Questions', 'Com_commit', 'Innodb_os_log_written',
        'Innodb_data_written', 'Bytes_received')`);
    const values = new Map(rows.map((row) => [String(row.Variable_name), Number(row.Value)]));
    const [logs] = await this.#session.query<RowDataPacket[]>('SHOW BINARY LOGS');
    return {
      statements: values.get('Questions') ?? 0,
      commits: values.get('Com_commit') ?? 0,
      redoBytes: values.get('Innodb_os_log_written') ?? 0,
      binlogBytes: logs.reduce((sum, log) => sum + Number(log.File_size), 0),
      dataBytes: values.get('Innodb_data_written') ?? 0,
      receivedBytes: values.get('Bytes_received') ?? 0,
    };
  }

  /** Runs one statement of the harness. */
  async run(sql: string): Promise<void> {
    await this.#session.query(sql);
  }

  /** Closes the connection. */
  async close(): Promise<void> {
    await this.#session.end();
  }
}
