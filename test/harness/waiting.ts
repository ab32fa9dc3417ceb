/** Waiting in tests, with bounds that hold on a busy machine, too. */
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 5;

/** What a test waits for comes much earlier; on a busy machine it may take that long. */
const WAIT_MAX_MS = 60_000;

/**
 * The longest deadline of otpd for an answer is 3 s, and a busy machine adds seconds. Without a
 * deadline MySQL and TCP make an answer wait for 50 s and more.
 */
const PROMPT_MAX_MS = 15_000;

/** Polls until the condition holds; throws, naming what was waited for, when it never does. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  boundMs = WAIT_MAX_MS,
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

/** The result of work that must not hang; throws when it is late. */
export async function promptly<T>(
  work: () => Promise<T>,
  boundMs = PROMPT_MAX_MS,
): Promise<T> {
  const late = new AbortController();
  const bound = delay(boundMs, null, { signal: late.signal }).then(() => {
    throw new Error(`it took more than ${boundMs} ms`);
  });
  try {
    return await Promise.race([work(), bound]);
  } finally {
    bound.catch(() => {});
    late.abort();
  }
}

/** Runs work and measures how many milliseconds it takes. */
export async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { ms: performance.now() - start, result };
}

/** The error that work ends in; throws when it succeeds. */
export async function errorOf(work: Promise<unknown>): Promise<unknown> {
  const outcome = await work.then(() => null, (error: unknown) => ({ error }));
  if (outcome === null) throw new Error('it did not fail');
  return outcome.error;
}
