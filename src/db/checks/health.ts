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
type DatabaseFault = 'database' | 'read_only' | 'schema';

/** Leaves time for the answer within the second that a probe waits. */
const CHECK_TIMEOUT_MS = 800;

/** How old an answer may be: whoever asks how often, the database is asked a few times a second. */
const KEPT_MS = 250;

const READ_ONLY_SQL = `SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only
  OR @@GLOBAL.innodb_read_only AS is_read_only`;

/** Looks at the database, one look at a time, however many ask. */
export class DatabaseCheck {
  readonly #pool: ConnectionPool;
  readonly #files = readSchemaFiles();
  #looking: Promise<readonly DatabaseFault[]> | null = null;
  #kept: readonly DatabaseFault[] = [];
  #keptAtMs = -Infinity;

  /** @param pool of one session, and of nobody else: a pool that is in use may have none free */
  constructor(pool: ConnectionPool) {
    this.#pool = pool;
  }

  /** What is wrong with it, as of a moment ago. Never rejects; answers in time in any case. */
  async errors(): Promise<readonly DatabaseFault[]> {
    if (this.#looking !== null) return this.#looking;
    if (monotonicMs() - this.#keptAtMs < KEPT_MS) return this.#kept;
    this.#looking = this.#look();
    this.#kept = await this.#looking;
    this.#keptAtMs = monotonicMs();
    this.#looking = null;
    return this.#kept;
  }

  async #look(): Promise<readonly DatabaseFault[]> {
    const deadline = new Deadline(CHECK_TIMEOUT_MS);
    try {
      const session = await this.#pool.acquire(deadline);
      const stopWatching = deadline.onEnd(() => session.destroy());
      try {
        return await this.#ask(session);
      } catch (error) {
        session.destroy();
        throw error;
      } finally {
        stopWatching();
        this.#pool.release(session);
      }
    } catch {
      return ['database'];
    } finally {
      deadline.clear();
    }
  }

  async #ask(session: Connection): Promise<DatabaseFault[]> {
    const errors: DatabaseFault[] = [];
    const [row] = await session.run('check.read_only', READ_ONLY_SQL, []);
    if (row?.is_read_only !== 0) errors.push('read_only');
    const { pending } = await readSchemaStatusOn(session, this.#files);
    // A newer one is no fault of a process that runs: in an upgrade there are some.
    if (pending.length > 0) errors.push('schema');
    return errors;
  }
}
