/** What workers have counted, as the first process asks them for it. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { counter, gauge } from './db/metrics/family.ts';
import type { Family, Source } from './db/metrics/family.ts';
import { mergeCounted, withoutGauges } from './db/metrics/merge.ts';
import type { Counted } from './db/metrics/merge.ts';

/** A worker that does not answer by then is shown as it was last. */
const ANSWER_TIMEOUT_MS = 500;

type Question = Readonly<{ kind: 'count'; number: number }>;
type Reply = Readonly<{ kind: 'counted'; number: number; families: readonly Family[] }>;

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

/** Tells the first process what this worker has counted, whenever it asks. */
export function answerCounts(source: Source): void {
  process.on('message', (question: Question) => {
    if (question?.kind !== 'count') return;
    const reply: Reply = { kind: 'counted', number: question.number, families: source() };
    // Without a callback a first process that is gone would be an error of this one.
    process.send?.(reply, undefined, undefined, () => {});
  });
}

/** Asks workers, all at once, and adds up what they say. */
export class WorkerCounts {
  /** By the number of the worker. */
  readonly #last = new Map<number, readonly Family[]>();
  /** Of those that have ended. */
  #ended: readonly Family[] = [];
  #asked = 0;

  /** Keeps what a worker that has ended had counted, as far as it is known. */
  noteEnd(worker: number): void {
    const families = withoutGauges(this.#last.get(worker) ?? []);
    this.#last.delete(worker);
    this.#ended = mergeCounted([{ worker, families: this.#ended }, { worker, families }]);
  }

  /**
   * Asks those that listen.
   *
   * @returns what each has counted last, and how many did not answer in time
   */
  async ask(
    workers: ReadonlyMap<number, Worker>,
  ): Promise<Readonly<{ counted: Counted[]; silent: number }>> {
    const silent = new Map([...workers].map(([number, worker]) => [worker, number]));
    this.#asked += 1;
    await this.#hear(silent, this.#asked);
    const last = [...this.#last].sort(([one], [other]) => one - other)
      .map(([worker, families]) => ({ worker, families }));
    return { counted: [...last, { worker: 0, families: this.#ended }], silent: silent.size };
  }

  /** Takes those that answer out of the silent ones. */
  #hear(silent: Map<Worker, number>, number: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(bound);
        cluster.off('message', onReply);
        resolve();
      };
      const onReply = (worker: Worker, reply: Reply): void => {
        const who = silent.get(worker);
        if (who === undefined || reply?.kind !== 'counted' || reply.number !== number) return;
        // One that has ended meanwhile was noted as such.
        if (!worker.isDead()) this.#last.set(who, reply.families);
        silent.delete(worker);
        if (silent.size === 0) end();
      };
      const bound = setTimeout(end, ANSWER_TIMEOUT_MS);
      cluster.on('message', onReply);
      const question: Question = { kind: 'count', number };
      for (const worker of silent.keys()) worker.send(question, () => {});
      if (silent.size === 0) end();
    });
  }
}
