/** Waiting in tests, with bounds that hold on a busy machine. */
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 5;

/** Conditions hold much earlier on an idle machine. */
const WAIT_MAX_MS = 60_000;

/**
 * The longest deadline of otpd for a response is 3 s, and a busy machine adds seconds. Without a
 * deadline, MySQL and TCP take 50 s and more.
 */
const PROMPT_MAX_MS = 15_000;

/** Polls until the condition holds; throws with the name of the condition after the bound. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  boundMs = WAIT_MAX_MS,
): Promise<void> {
  const start = performance.now();
  while (!(await condition())) {
    if (performance.now() - start > boundMs) throw new Error(`not within ${boundMs} ms: ${what}`);
    await delay(POLL_MS);
  }
}

/** A promise that is settled from outside. */
export type Gate<T = void> = Readonly<{ promise: Promise<T>; open: (value: T) => void }>;

export function createGate<T = void>(): Gate<T> {
  let open: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => { open = resolve; });
  return { promise, open };
}

/** Returns the result of work that must not hang; throws after the bound. */
export async function promptly<T>(
  work: () => Promise<T>,
  boundMs = PROMPT_MAX_MS,
): Promise<T> {
  const late = new AbortController();
  const bound = delay(boundMs, null, { signal: late.signal }).then(() => {
    throw new Error(`the work took more than ${boundMs} ms`);
  });
  try {
    return await Promise.race([work(), bound]);
  } finally {
    bound.catch(() => {});
    late.abort();
  }
}

/** Runs work and measures its duration in milliseconds. */
export async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { ms: performance.now() - start, result };
}

/** Returns the error of work that must fail; throws when it succeeds. */
export async function errorOf(work: Promise<unknown>): Promise<Error> {
  const error = await work.then(() => null, (reason: unknown) => reason);
  if (error instanceof Error) return error;
  throw new Error('the work did not fail');
}
