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
  readonly #note: (note: ReloadEvent) => void;
  readonly #parts = new Map<string, Reload>();
  readonly #work = new CoalescingRunner();
  #handOn: (() => void) | null = null;

  /** @param note is told what became of each part */
  constructor(note: (note: ReloadEvent) => void) {
    this.#note = note;
  }

  /**
   * Registers a part.
   *
   * @param name what the log calls it, such as the variable that names its file
   */
  add(name: string, reload: Reload): void {
    this.#parts.set(name, reload);
  }

  /** Names who is told of every request before it is met here: it hands it to other processes. */
  handOnTo(handOn: () => void): void {
    this.#handOn = handOn;
  }

  /** All parts are registered: requests are met from now on; those that came before, at once. */
  begin(): void {
    this.#work.begin(() => this.#reloadAll());
  }

  /** Asks for a reload of all parts. */
  request(): void {
    this.#work.request();
  }

  async #reloadAll(): Promise<void> {
    this.#handOn?.();
    // Who hands on has nothing to say of what the others have.
    if (this.#parts.size === 0 && this.#handOn === null) this.#note({ event: 'nothing_to_reload' });
    for (const [name, reload] of this.#parts) {
      try {
        await reload();
        this.#note({ event: 'reloaded', name });
      } catch (error) {
        this.#note({ event: 'reload_failed', name, error });
      }
    }
  }
}

/** Listens for SIGHUP, which ends the process no more. Takes what Reloads takes. */
export function listenForReload(note: (note: ReloadEvent) => void): Reloads {
  const reloads = new Reloads(note);
  process.on('SIGHUP', () => reloads.request());
  return reloads;
}

/**
 * Any number of requests that come while the work runs lead to one more run, for what it has seen
 * may be old by then. Requests that come before it may begin are kept.
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
  begin(work: () => Promise<void>): void {
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
