/** Keeps the private MySQL server running: starts it again when it dies under us. */
import { startLocalServer } from './launch.ts';
import type { LocalServer, LocalServerOptions } from './launch.ts';

/** A private server that is started again when it dies. */
export type KeptServer = Readonly<{
  socketPath: string;
  /** Rejects when the server cannot be kept running; never resolves. */
  failed: Promise<never>;
  stop: () => Promise<void>;
}>;

/** More deaths than this within a minute are a crash loop, which must not be hidden. */
const RESTARTS_MAX = 5;
const CALM_MS = 60_000;

/**
 * Starts the private server and starts it anew, on the same data and socket, when it ends without
 * being asked to. Takes and throws what startLocalServer does.
 */
export async function keepLocalServer(options: LocalServerOptions): Promise<KeptServer> {
  let server = await startLocalServer(options);
  let isStopping = false;
  let restarts = 0;

  const watch = async (): Promise<never> => {
    for (;;) {
      const { wasStopped } = await server.exited;
      if (wasStopped || isStopping) return new Promise<never>(() => {});
      restarts += 1;
      if (restarts > RESTARTS_MAX) throw new Error('MySQL keeps ending; see mysqld.log');
      setTimeout(() => { restarts -= 1; }, CALM_MS).unref();
      options.say('MySQL ended by itself; starting it again.');
      server = await startAgain(options);
    }
  };

  const failed = watch();
  failed.catch(() => {});
  const stop = async (): Promise<void> => {
    isStopping = true;
    await server.stop();
  };
  return { socketPath: server.socketPath, failed, stop };
}

function startAgain({ signal: _over, ...options }: LocalServerOptions): Promise<LocalServer> {
  return startLocalServer(options);
}
