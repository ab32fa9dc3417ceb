/** Runs otpd as a child process, and passes the signals of this process on to it. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { watch } from 'node:fs';
import { constants } from 'node:os';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Stopped } from '../src/app/process/shutdown.ts';
import { STOP_TIMEOUT_MS } from '../src/app/process/shutdown.ts';

/**
 * Ctrl-C in a terminal signals npm and this process, and npm passes the signal on: a second one
 * within this time belongs to the same request.
 */
const SAME_REQUEST_MS = 1000;

/** otpd bounds its own stop by STOP_TIMEOUT_MS; only a process that hangs is killed. */
const KILL_TIMEOUT_MS = STOP_TIMEOUT_MS + 2000;

/** An editor writes several files in a row; one restart is enough for them. */
const SETTLE_MS = 100;

const SIGNAL_EXIT_BASE = 128;

/** `.ts` when run by tsx, `.js` when compiled: the child runs in the same form. */
const EXTENSION = extname(fileURLToPath(import.meta.url));
const SRC = fileURLToPath(new URL('../src/', import.meta.url));
export const MAIN = `${SRC}main${EXTENSION}`;
const END_WITH_PARENT = hookAt('end-with-parent');

/** otpd loads a hook before its own code. */
export function hookAt(name: string): string {
  return new URL(`./${name}${EXTENSION}`, import.meta.url).href;
}

/** What a run of otpd gets in addition to its command. */
export type RunOptions = Readonly<{
  /** These override the environment of this process. */
  variables: Readonly<Record<string, string>>;
  hooks?: readonly string[];
  /** Receives what the hooks report. */
  onReport?: (report: never) => void;
}>;

/** otpd, run once or restarted on every change of its code. */
export class OtpdProcess {
  readonly #parameters: readonly string[];
  readonly #stopping = new AbortController();
  #child: ChildProcess | null = null;
  #stopMs = 0;

  /** @param parameters the command and its arguments */
  constructor(parameters: readonly string[]) {
    this.#parameters = parameters;
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => this.#stop(name));
    // Before otpd runs, neither signal has a process to reach.
    for (const name of ['SIGHUP', 'SIGUSR2'] as const) {
      process.on(name, () => this.#child?.kill(name));
    }
  }

  /** Aborted with Stopped by the first SIGINT or SIGTERM. */
  get stop(): AbortSignal {
    return this.#stopping.signal;
  }

  /**
   * Runs the command to its end.
   *
   * @returns its exit code; 128 plus the number of the signal that ended it
   * @throws Stopped when the stop was requested before the start
   */
  async run({ variables, hooks = [], onReport }: RunOptions): Promise<number> {
    this.stop.throwIfAborted();
    const imports = [END_WITH_PARENT, ...hooks].flatMap((hook) => ['--import', hook]);
    const program = [...process.execArgv, ...imports, MAIN, ...this.#parameters];
    // A process group of its own: a Ctrl-C reaches otpd only through #stop, and so exactly once.
    const child = spawn(process.execPath, program, {
      detached: true,
      env: { ...process.env, ...variables },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child = child;
    if (onReport !== undefined) child.on('message', (report) => onReport(report as never));
    try {
      const [code, signal] = await once(child, 'exit') as [number | null, NodeJS.Signals | null];
      return code ?? SIGNAL_EXIT_BASE + constants.signals[signal ?? 'SIGKILL'];
    } finally {
      this.#child = null;
    }
  }

  /** Like run, but restarts the command on every change of src. Returns after a stop only. */
  async runWatched(options: RunOptions, print: (line: string) => void): Promise<number> {
    const changes = new EventEmitter();
    let timer: NodeJS.Timeout | undefined;
    const watcher = watch(SRC, { recursive: true }, () => {
      clearTimeout(timer);
      timer = setTimeout(() => changes.emit('change'), SETTLE_MS);
    });
    try {
      for (;;) {
        let isChanged = false;
        const changed = once(changes, 'change', { signal: this.stop }).then(() => {
          isChanged = true;
          this.#child?.kill('SIGTERM');
        }).catch(() => {});
        const code = await this.run(options);
        if (!isChanged && !this.stop.aborted) print('otpd ended; it restarts on the next change.');
        await changed;
        if (this.stop.aborted) return code;
        print('A file of src has changed: restarting otpd.');
      }
    } finally {
      clearTimeout(timer);
      watcher.close();
    }
  }

  /** Stops otpd after a failure, and waits until it has exited. */
  async end(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    const exit = once(child, 'exit');
    this.#stop('SIGTERM');
    await exit;
  }

  #stop(name: 'SIGINT' | 'SIGTERM'): void {
    if (!this.stop.aborted) {
      this.#stopMs = performance.now();
      this.#stopping.abort(new Stopped());
      setTimeout(() => this.#child?.kill('SIGKILL'), KILL_TIMEOUT_MS).unref();
    } else if (performance.now() - this.#stopMs < SAME_REQUEST_MS) {
      return;
    }
    this.#child?.kill(name);
  }
}
