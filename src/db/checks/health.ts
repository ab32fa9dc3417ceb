/** The readiness check of the database: reachable, writable, and with the current schema. */
import { Deadline, monotonicMs } from '../clock.ts';
import type { Connection } from '../connection.ts';
import { readSchemaFiles, readSchemaStatusOn } from '../migrate.ts';
import type { ConnectionPool } from '../pool.ts';

/**
 * - `database`: unreachable, or no answer in time.
 * - `read_only`: the server accepts no writes, as a replica does.
 * - `schema`: migrations are pending.
 */
type HealthError = 'database' | 'read_only' | 'schema';

/** Leaves time for the response within the 1 s timeout of a typical probe. */
const CHECK_TIMEOUT_MS = 800;

/** Bounds the load: frequent probes cause at most four checks per second. */
const RESULT_MAX_AGE_MS = 250;

const READ_ONLY_SQL = `SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only
  OR @@GLOBAL.innodb_read_only AS is_read_only`;

/** Runs one check at a time, and shares its result between concurrent callers. */
export class DatabaseCheck {
  readonly #pool: ConnectionPool;
  readonly #files = readSchemaFiles();
  #running: Promise<readonly HealthError[]> | null = null;
  #latest: readonly HealthError[] = [];
  #checkedAtMs = -Infinity;

  /** @param pool a pool of one connection for this check only: a busy pool may have none free */
  constructor(pool: ConnectionPool) {
    this.#pool = pool;
  }

  /** The result of the latest check, at most RESULT_MAX_AGE_MS old. Never rejects. */
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
    // A newer schema is no error: during an upgrade older processes still serve.
    if (pending.length > 0) errors.push('schema');
    return errors;
  }
}
