/** Keeps the private MySQL server running: starts it again when it dies under us. */
import { CrashLoop } from '../../app/process/crash-loop.ts';
import { startLocalServer } from './launch.ts';
import type { LocalServerOptions } from './launch.ts';
import { LocalServerError } from './local-server-error.ts';

/** A private server that is started again when it dies. */
export type KeptServer = Readonly<{
  socketPath: string;
  /** Rejects when the server cannot be kept running; never resolves. */
  failed: Promise<never>;
  stop: () => Promise<void>;
}>;

const DEATHS_MAX = 5;

const CRASH_LOOP = ['The private MySQL keeps ending by itself.', 'Its log, mysqld.log, says why.'];

/**
 * Starts the private server and starts it anew, on the same data and socket, when it ends without
 * being asked to. Takes and throws what startLocalServer does.
 */
export async function keepLocalServer(options: LocalServerOptions): Promise<KeptServer> {
  const stopping = new AbortController();
  let current = startLocalServer(options);
  const { socketPath } = await current;
  const crashes = new CrashLoop(DEATHS_MAX);

  const keep = async (): Promise<never> => {
    for (;;) {
      await (await current).exited;
      if (stopping.signal.aborted) return new Promise<never>(() => {});
      if (crashes.noteDeath()) throw new LocalServerError(CRASH_LOOP);
      options.say('MySQL ended by itself; starting it again.');
      current = startLocalServer({ ...options, signal: stopping.signal });
    }
  };

  const failed = keep();
  failed.catch(() => {});
  const stop = async (): Promise<void> => {
    stopping.abort();
    const server = await current.catch(() => null);
    await server?.stop();
  };
  return { socketPath, failed, stop };
}
