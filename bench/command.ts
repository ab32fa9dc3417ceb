/** What the commands of this folder share: what they tell, and how they are stopped. */

/** Tells a person who waits. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Aborted when the command is asked to end, for it to clean up first. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => stop.abort(new Error('stopped')));
  }
  return stop.signal;
}
