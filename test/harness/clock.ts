/**
 * A clock that tests move, by `SET timestamp` on their own connections. The service under test is
 * unchanged.
 */
import type { Connection } from '../../src/db/connection.ts';

/** Moves NOW() of the connections that it wraps. */
export class TestClock {
  #epochSeconds: string | null = null;

  /**
   * Sets the clock, which stands still until it is set again.
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

  /** Returns a connection that follows this clock. */
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
