/** What workers have counted, as the first process asks them for it. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { counter, gauge } from './db/metrics/family.ts';
import type { Family } from './db/metrics/family.ts';
import { mergeCounted, withoutGauges } from './db/metrics/merge.ts';
import type { Counted } from './db/metrics/merge.ts';
import { demand } from './worker-messages.ts';
import type { Reply } from './worker-messages.ts';

/** A worker that does not answer by then is shown as it was last. */
const ANSWER_TIMEOUT_MS = 500;

/** The processes that serve, as a scrape sees them. */
export type WorkersSeen = Readonly<{
  wanted: number;
  listening: number;
  silent: number;
  deaths: number;
}>;

/** What is told of the processes that serve. */
export function workersFamilies({ wanted, listening, silent, deaths }: WorkersSeen): Family[] {
  return [
    gauge('otpd_workers', 'Processes that answer requests.', listening),
    gauge('otpd_workers_wanted', 'Processes that should answer requests.', wanted),
    gauge('otpd_workers_silent',
      'Workers that did not say in time what they have counted: they are shown as they were last.',
      silent),
    counter('otpd_worker_deaths_total', 'Workers that ended by themselves.', deaths),
  ];
}

/** Asks workers, all at once, and adds up what they say. */
export class WorkerCounts {
  readonly #last = new Map<Worker, readonly Family[]>();
  /** Of those that have ended. */
  #ended: readonly Family[] = [];
  #asked = 0;

  /** Notes what a worker has counted. */
  note(worker: Worker, families: readonly Family[]): void {
    this.#last.set(worker, families);
  }

  /** Keeps what a worker that has ended had counted, as far as it is known. */
  noteEnd(worker: Worker): void {
    const families = withoutGauges(this.#last.get(worker) ?? []);
    this.#last.delete(worker);
    this.#ended = mergeCounted([{ worker: 0, families: this.#ended }, { worker: 0, families }]);
  }

  /**
   * Asks workers.
   *
   * @param serving by their numbers
   * @param retiring those that another has taken the place of: their gauges are not shown
   * @returns what each has counted last, and how many did not answer in time
   */
  async ask(
    serving: ReadonlyMap<number, Worker>,
    retiring: ReadonlySet<Worker>,
  ): Promise<Readonly<{ counted: Counted[]; silent: number }>> {
    const silent = new Set([...serving.values(), ...retiring]);
    this.#asked += 1;
    await this.#hear(silent, this.#asked);
    const counted = [...serving].sort(([one], [other]) => one - other)
      .map(([number, worker]) => ({ worker: number, families: this.#last.get(worker) ?? [] }));
    for (const worker of retiring) {
      counted.push({ worker: 0, families: withoutGauges(this.#last.get(worker) ?? []) });
    }
    counted.push({ worker: 0, families: this.#ended });
    return { counted, silent: silent.size };
  }

  /** Takes those that answer out of the silent ones. */
  #hear(silent: Set<Worker>, number: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(bound);
        cluster.off('message', onReply);
        resolve();
      };
      const onReply = (worker: Worker, reply: Reply): void => {
        if (reply?.kind !== 'counted' || reply.number !== number || !silent.has(worker)) return;
        // One that has ended meanwhile was noted as such.
        if (!worker.isDead()) this.note(worker, reply.families);
        silent.delete(worker);
        if (silent.size === 0) end();
      };
      const bound = setTimeout(end, ANSWER_TIMEOUT_MS);
      cluster.on('message', onReply);
      for (const worker of silent) demand(worker, { kind: 'count', number });
      if (silent.size === 0) end();
    });
  }
}
