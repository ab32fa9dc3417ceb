/** SIGHUP: what can change while otpd runs is read anew; what is at fault changes nothing. */
/** Reads one thing anew and puts it in force; throws to leave the old one in force. */
type Reload = () => void | Promise<void>;

/** What is told of a reload, for the log. */
export type ReloadEvent =
  | Readonly<{ event: 'reloaded'; name: string }>
  | Readonly<{ event: 'reload_failed'; name: string; error: unknown }>
  | Readonly<{ event: 'nothing_to_reload' }>;

/** What can be read anew, and whoever asks for it. One reload runs at a time. */
export class Reloads {
  readonly #onEvent: (event: ReloadEvent) => void;
  readonly #reloads = new Map<string, Reload>();
  readonly #runner = new CoalescingRunner();
  #forward: (() => void) | null = null;

  /** @param onEvent is told what became of each part */
  constructor(onEvent: (event: ReloadEvent) => void) {
    this.#onEvent = onEvent;
  }

  /**
   * Registers a part.
   *
   * @param name what the log calls it, such as the variable that names its file
   */
  add(name: string, reload: Reload): void {
    this.#reloads.set(name, reload);
  }

  /** Names who is told of every request before it is met here: it hands it to other processes. */
  forwardTo(forward: () => void): void {
    this.#forward = forward;
  }

  /** All parts are registered: requests are met from now on; those that came before, at once. */
  start(): void {
    this.#runner.start(() => this.#reloadAll());
  }

  /** Asks for a reload of all parts. */
  request(): void {
    this.#runner.request();
  }

  async #reloadAll(): Promise<void> {
    this.#forward?.();
    // Who hands on has nothing to say of what the others have.
    if (this.#reloads.size === 0 && this.#forward === null) {
      this.#onEvent({ event: 'nothing_to_reload' });
    }
    for (const [name, reload] of this.#reloads) {
      try {
        await reload();
        this.#onEvent({ event: 'reloaded', name });
      } catch (error) {
        this.#onEvent({ event: 'reload_failed', name, error });
      }
    }
  }
}

/** Listens for SIGHUP, which ends the process no more. Takes what Reloads takes. */
export function listenForReload(onEvent: (event: ReloadEvent) => void): Reloads {
  const reloads = new Reloads(onEvent);
  process.on('SIGHUP', () => reloads.request());
  return reloads;
}

/**
 * Any number of requests that come while the work runs lead to one more run, for what it has seen
 * may be old by then. Requests that come before it may start are kept.
 */
export class CoalescingRunner {
  #work: (() => Promise<void>) | null = null;
  #isRunning = false;
  #isWanted = false;

  /**
   * From now on requests are met; those that came before, at once.
   *
   * @param work must not reject
   */
  start(work: () => Promise<void>): void {
    this.#work = work;
    void this.#run();
  }

  /** Asks for a run. */
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
