/** What keeps writing to standard error from blocking, where it is a pipe or a socket. */
import { constants, openSync } from 'node:fs';

/**
 * Makes the socket that is standard error non-blocking: a thread that waits for a reader who is
 * stuck would hold up the end of the process. Once is not enough: whoever else has it, and be it
 * the shell that otpd was started from, may reset it.
 */
export function keepFromBlocking(): void {
  type Handle = { _handle?: { setBlocking?: (isBlocking: boolean) => number } };
  (process.stderr as Handle)._handle?.setBlocking?.(false);
}

/** Opens a pipe anew, so that writing to it never blocks; null where that cannot be done. */
export function openWithoutBlocking(fd: number): number | null {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}
