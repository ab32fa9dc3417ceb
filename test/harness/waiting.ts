/** Waiting in tests: for a condition with a bound, for a gate, and how long something took. */
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 5;

/** Polls until the condition holds; throws, naming what was waited for, when it never does. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  boundMs = 10_000,
): Promise<void> {
  const start = performance.now();
  while (!(await condition())) {
    if (performance.now() - start > boundMs) throw new Error(`never came true: ${what}`);
    await delay(POLL_MS);
  }
}

/** A promise that is settled from outside. */
export type Gate<T = void> = Readonly<{ promise: Promise<T>; open: (value: T) => void }>;

/** Makes a gate. */
export function createGate<T = void>(): Gate<T> {
  let open: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => { open = resolve; });
  return { promise, open };
}

/** Runs work and says how many milliseconds it took. */
export async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { ms: performance.now() - start, result };
}

/** The error that work ends in; throws when it succeeds. */
export async function errorOf(work: Promise<unknown>): Promise<unknown> {
  const ending = await work.then(() => null, (error: unknown) => ({ error }));
  if (ending === null) throw new Error('it did not fail');
  return ending.error;
}
