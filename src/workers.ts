/** Several processes on one port: the kernel and node:cluster hand them the connections. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { once } from 'node:events';

/** Processes that serve. */
export type Workers = Readonly<{
  /** The port that they share. */
  port: number;
  /** Rejects when they keep ending; never resolves. */
  failed: Promise<never>;
  /** Asks all to stop and resolves when the last has ended, or was ended at the bound. */
  stop: (timeoutMs: number) => Promise<void>;
}>;

/** More deaths than this within a minute are a crash loop, which must not be hidden. */
const DEATHS_MAX = 10;
const CALM_MS = 60_000;

/** True in a process that was started by startWorkers. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/**
 * Starts processes that run the same command line as this one, and starts another for each that
 * ends by itself.
 *
 * @param count how many
 * @throws Error when one ends before it listens
 */
export async function startWorkers(count: number): Promise<Workers> {
  let isStopping = false;
  let deaths = 0;
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => { fail = reject; });
  failed.catch(() => {});

  const replace = (): void => {
    if (isStopping) return;
    deaths += 1;
    setTimeout(() => { deaths -= 1; }, CALM_MS).unref();
    if (deaths > DEATHS_MAX) fail(new Error('the workers keep ending by themselves'));
    else cluster.fork();
  };

  const stop = async (timeoutMs: number): Promise<void> => {
    isStopping = true;
    const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
    const bound = setTimeout(() => workers.forEach((worker) => worker.process.kill('SIGKILL')),
      timeoutMs);
    await Promise.all(workers.map(stopWorker));
    clearTimeout(bound);
  };

  const ports = Array.from({ length: count }, () => listening(cluster.fork()));
  try {
    const [port] = await Promise.all(ports);
    cluster.on('exit', replace);
    return { port: port!, failed, stop };
  } catch (error) {
    await stop(0);
    throw error;
  }
}

async function listening(worker: Worker): Promise<number> {
  const ended = once(worker, 'exit').then(() => {
    throw new Error('a worker ended before it listened; its message is above');
  });
  const [{ port }] = await Promise.race([once(worker, 'listening'), ended]) as [{ port: number }];
  ended.catch(() => {});
  return port;
}

async function stopWorker(worker: Worker): Promise<void> {
  if (worker.isDead()) return;
  const exit = once(worker, 'exit');
  worker.process.kill('SIGTERM');
  await exit;
}
