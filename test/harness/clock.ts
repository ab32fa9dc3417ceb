/**
 * A clock that tests move. It works on the tests' own connections, by `SET timestamp`; the
 * service under test is the real one and knows nothing of it.
 */
import type { Connection } from '../../src/db/connection.ts';

/** Moves NOW() of the connections that it wraps. */
export class TestClock {
  #epochSeconds: string | null = null;

  /**
   * Sets the clock; it stands still until it is set again.
   *
   * @param text a UTC time such as `2026-01-05 08:00:00.000001`; null: the real time again
   */
  set(text: string | null): void {
    if (text === null) {
      this.#epochSeconds = null;
      return;
    }
    const [seconds = '', fraction = '0'] = text.split('.');
    const milliseconds = Date.parse(`${seconds.replace(' ', 'T')}Z`);
    if (Number.isNaN(milliseconds)) throw new Error(`not a time: ${text}`);
    this.#epochSeconds = `${milliseconds / 1000}.${fraction.padEnd(6, '0')}`;
  }

  /** A connection whose time is this clock's. */
  wrap(connection: Connection): Connection {
    let applied: string | null = null;
    const apply = async (): Promise<void> => {
      const wanted = this.#epochSeconds;
      if (wanted === applied) return;
      await connection.run('clock', `SET timestamp = ${wanted ?? 'DEFAULT'}`, []);
      applied = wanted;
    };
    return {
      ...connection,
      run: async (...statement) => {
        await apply();
        return connection.run(...statement);
      },
      runAll: async (...statements) => {
        await apply();
        return connection.runAll(...statements);
      },
    };
  }
}
