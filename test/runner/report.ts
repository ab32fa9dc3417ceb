/** Counts passed and failed tests, and prints a line for each file. */
import { appendFileSync } from 'node:fs';
import { NOT_RUN } from '../harness/not-run.ts';
import type { ProgramResult } from './program.ts';

export type Counts = Readonly<{ passed: number; failed: number }>;

/** Prints to standard output, and to a file when one is given. */
export class Report {
  readonly #file: string | null;
  readonly #startMs = performance.now();
  #passed = 0;
  #failed = 0;
  /** The lines about tests that this machine cannot run. */
  readonly #notRun: string[] = [];

  constructor(file: string | null) {
    this.#file = file;
  }

  get counts(): Counts {
    return { passed: this.#passed, failed: this.#failed };
  }

  get seconds(): number {
    return secondsSince(this.#startMs);
  }

  print(text: string): void {
    process.stdout.write(`${text}\n`);
    this.#keep(text);
  }

  /** Counts a check as one test; `work` resolves with '' or with a description of the failure. */
  async check(name: string, work: () => Promise<string>): Promise<void> {
    const startMs = performance.now();
    const problem = await work();
    if (problem === '') {
      this.#passed += 1;
      this.print(`ok      ${name} (${secondsSince(startMs).toFixed(0)} s)`);
    } else {
      this.#failed += 1;
      this.print(`FAILED  ${name}\n${problem}`);
    }
  }

  /** Counts the tests of a file; prints its output only when one has failed. */
  async countFile(name: string, work: () => Promise<ProgramResult>): Promise<void> {
    const startMs = performance.now();
    const { code, output } = await work();
    const total = numberIn(output, 'Total');
    const passed = numberIn(output, 'Passed');
    // A file that crashed, passed nothing or skipped a test has failed.
    const failed = Math.max(total - passed, code === 0 && passed > 0 ? 0 : 1);
    this.#passed += passed;
    this.#failed += failed;
    this.#notRun.push(...output.split('\n').filter((line) => line.startsWith(NOT_RUN)));
    const seconds = secondsSince(startMs).toFixed(0);
    if (failed === 0) {
      this.print(`ok      ${name} (${passed} in ${seconds} s)`);
      this.#keep(output);
    } else {
      this.print(`FAILED  ${name} (${failed} of ${Math.max(total, 1)})\n${output}`);
    }
  }

  /** Prints what was not run and the counts, and sets the exit code. */
  close(title: string): void {
    if (this.#notRun.length > 0) this.print(`\n${this.#notRun.join('\n')}`);
    this.print(`\n${title}${this.#passed} passed, ${this.#failed} failed`);
    process.exitCode = this.#failed === 0 ? 0 : 1;
  }

  #keep(text: string): void {
    if (this.#file !== null) appendFileSync(this.#file, `${text}\n`);
  }
}

function secondsSince(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}

function numberIn(output: string, label: string): number {
  return Number(new RegExp(`^\\s*${label}:\\s+(\\d+)`, 'm').exec(output)?.[1] ?? 0);
}
