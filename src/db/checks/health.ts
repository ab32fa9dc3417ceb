/** Whether the database can be worked on: it answers, takes writes, and has the right schema. */
import { monotonicMs } from '../clock.ts';
import type { Connection } from '../connection.ts';
import { Deadline } from '../deadline.ts';
import { readSchemaFiles, readSchemaStatusOn } from '../migrate.ts';
import type { ConnectionPool } from '../pool.ts';

/**
 * - `database`: it cannot be reached, or does not answer in time.
 * - `read_only`: it takes no writes: a replica, or a server that was set so.
 * - `schema`: migrations are pending.
 */
type HealthError = 'database' | 'read_only' | 'schema';

/** Leaves time for the answer within the second that a probe waits. */
const CHECK_TIMEOUT_MS = 800;

/** How old an answer may be: whoever asks how often, the database is asked a few times a second. */
const RESULT_MAX_AGE_MS = 250;

const READ_ONLY_SQL = `SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only
  OR @@GLOBAL.innodb_read_only AS is_read_only`;

/** Looks at the database, one look at a time, however many ask. */
export class DatabaseCheck {
  readonly #pool: ConnectionPool;
  readonly #files = readSchemaFiles();
  #running: Promise<readonly HealthError[]> | null = null;
  #latest: readonly HealthError[] = [];
  #checkedAtMs = -Infinity;

  /** @param pool of one connection, and of nobody else: a pool that is in use may have none free */
  constructor(pool: ConnectionPool) {
    this.#pool = pool;
  }

  /** What is wrong with it, as of a moment ago. Never rejects; answers in time in any case. */
  async errors(): Promise<readonly HealthError[]> {
    if (this.#running !== null) return this.#running;
    if (monotonicMs() - this.#checkedAtMs < RESULT_MAX_AGE_MS) return this.#latest;
    this.#running = this.#check();
    this.#latest = await this.#running;
    this.#checkedAtMs = monotonicMs();
    this.#running = null;
    return this.#latest;
  }

  async #check(): Promise<readonly HealthError[]> {
    const deadline = new Deadline(CHECK_TIMEOUT_MS);
    try {
      const connection = await this.#pool.acquire(deadline);
      const stopWatching = deadline.onEnd(() => connection.destroy());
      try {
        return await this.#inspect(connection);
      } catch (error) {
        connection.destroy();
        throw error;
      } finally {
        stopWatching();
        this.#pool.release(connection);
      }
    } catch {
      return ['database'];
    } finally {
      deadline.clear();
    }
  }

  async #inspect(connection: Connection): Promise<HealthError[]> {
    const errors: HealthError[] = [];
    const [row] = await connection.run('check.read_only', READ_ONLY_SQL, []);
    if (row?.is_read_only !== 0) errors.push('read_only');
    const { pending } = await readSchemaStatusOn(connection, this.#files);
    // A newer one is no fault of a process that runs: in an upgrade there are some.
    if (pending.length > 0) errors.push('schema');
    return errors;
  }
}
