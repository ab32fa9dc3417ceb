/** Hostile clients in a process of their own, for as long as they are wanted. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BENCH } from './build.ts';
import { readUsage } from './usage.ts';

/** What is done beside the good requests, by the name that load/attacker.ts has for it. */
export const ATTACKS: ReadonlyMap<string, string> = new Map([
  ['slow', '2,000 sockets that send a byte a second (Slowloris)'],
  ['pipelines', '64 sockets that pipeline 200 requests each'],
  ['bodies', '8 sockets that send bodies of 200 MiB'],
]);

/** What it has done, by its own account. */
export type Done = Readonly<{ opened: number; sentBytes: number; answers: number }>;

const READY_MAX_MS = 20_000;
const READY_POLL_MS = 10;

/** The first of its sockets have been answered by then. */
const RAMP_MS = 1000;

/** An attack under way. */
export class Attacker {
  readonly #child: ChildProcess;
  #output = '';

  private constructor(port: number, kind: string, file: string) {
    const program = join(BENCH, 'dist/load/attacker.js');
    this.#child = spawn(process.execPath, [program, String(port), kind, file], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => { this.#output += text; });
    }
  }

  /**
   * Begins one, and waits until all its sockets are in use.
   *
   * @param file requests that are refused, as writeRequests writes them
   */
  static async start(port: number, kind: string, file: string): Promise<Attacker> {
    const attacker = new Attacker(port, kind, file);
    const deadline = AbortSignal.timeout(READY_MAX_MS);
    while (!attacker.#output.includes('READY')) {
      deadline.throwIfAborted();
      await delay(READY_POLL_MS);
    }
    await delay(RAMP_MS);
    return attacker;
  }

  /** CPU time that it has used, in microseconds. */
  async cpuUs(): Promise<number> {
    if (this.#child.exitCode !== null) throw new Error(`an attacker ended:\n${this.#output}`);
    return (await readUsage(this.#child.pid ?? 0)).cpuUs;
  }

  /** Ends it. */
  async stop(): Promise<Done> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGTERM');
    await ended;
    const [, line] = /^DONE (.*)$/m.exec(this.#output) ?? [];
    if (line === undefined) throw new Error(`an attacker failed:\n${this.#output}`);
    return JSON.parse(line) as Done;
  }
}
