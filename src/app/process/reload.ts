/** Reload on SIGHUP: files are read again, and a file with an error changes nothing. */

/**
 * Reads one file again and puts its content into force; throws to keep the old content. Returns
 * what has changed, where the log says more than that the file was read.
 */
type Reload = () => ReloadChanges | void | Promise<void>;

/** Lists of names by their member of the log line, such as `added`. */
type ReloadChanges = Readonly<Record<string, readonly string[]>>;

export type ReloadEvent =
  | Readonly<{ event: 'reloaded'; name: string; changes?: ReloadChanges }>
  | Readonly<{ event: 'reload_failed'; name: string; error: unknown }>
  | Readonly<{ event: 'nothing_to_reload' }>;

/** The registered reloads. One run at a time executes all of them in order. */
export class Reloads {
  readonly #onEvent: (event: ReloadEvent) => void;
  readonly #reloads = new Map<string, Reload>();
  readonly #runner = new CoalescingRunner();
  #forward: (() => void) | null = null;

  constructor(onEvent: (event: ReloadEvent) => void) {
    this.#onEvent = onEvent;
  }

  /** @param name the member `name` of the log event, such as the variable that names the file */
  add(name: string, reload: Reload): void {
    this.#reloads.set(name, reload);
  }

  /** Registers a callback that passes every request on to other processes first. */
  forwardTo(forward: () => void): void {
    this.#forward = forward;
  }

  /** Called when every reload is registered. A request that came earlier runs at once. */
  start(): void {
    this.#runner.start(() => this.#reloadAll());
  }

  request(): void {
    this.#runner.request();
  }

  async #reloadAll(): Promise<void> {
    this.#forward?.();
    // A process that only forwards does not know which files the workers reload.
    if (this.#reloads.size === 0 && this.#forward === null) {
      this.#onEvent({ event: 'nothing_to_reload' });
    }
    for (const [name, reload] of this.#reloads) {
      try {
        const changes = await reload();
        this.#onEvent({ event: 'reloaded', name, ...(changes ? { changes } : {}) });
      } catch (error) {
        this.#onEvent({ event: 'reload_failed', name, error });
      }
    }
  }
}

/** Listens for SIGHUP, which no longer terminates the process. */
export function listenForReload(onEvent: (event: ReloadEvent) => void): Reloads {
  const reloads = new Reloads(onEvent);
  process.on('SIGHUP', () => reloads.request());
  return reloads;
}

/**
 * Runs work on request, one run at a time. Any number of requests during a run cause one more run,
 * because the run may have read its input before they came. A request before the start is kept.
 */
export class CoalescingRunner {
  #work: (() => Promise<void>) | null = null;
  #isRunning = false;
  #isWanted = false;

  /** @param work must not reject: nobody awaits a run */
  start(work: () => Promise<void>): void {
    this.#work = work;
    void this.#run();
  }

  request(): void {
    this.#isWanted = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#work === null || this.#isRunning) return;
    this.#isRunning = true;
    while (this.#isWanted) {
      this.#isWanted = false;
      await this.#work();
    }
    this.#isRunning = false;
  }
}
