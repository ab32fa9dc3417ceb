/** Reads a file that contains a secret, within bounds of size and time. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { monotonicMs } from '../db/clock.ts';

/** Room for hundreds of API keys. A path such as /dev/zero has no end. */
const SECRET_MAX_BYTES = 65_536;

/** Returns the text of a file, or the rest of a sentence that begins with the variable. */
export function readSecretFile(path: string): string | { error: string } {
  let bytes: Buffer;
  try {
    bytes = readAtMost(path, SECRET_MAX_BYTES + 1);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { error: `names a file that cannot be read (${code}): ${path}` };
  }
  if (bytes.length > SECRET_MAX_BYTES) {
    return { error: `names a file of more than ${SECRET_MAX_BYTES} bytes: ${path}` };
  }
  const text = bytes.toString('utf8').replace(/\r?\n$/, '');
  if (text.trim() === '') return { error: `names a file that is empty: ${path}` };
  if (!Buffer.from(text).equals(bytes.subarray(0, Buffer.byteLength(text)))
    || /^\ufeff|\0/.test(text)) {
    return { error: `names a file that is not UTF-8 text without a byte order mark: ${path}` };
  }
  return text;
}

/** The time that the writer of a pipe has. The process does nothing else meanwhile. */
const PIPE_TIMEOUT_MS = 1000;
const PIPE_POLL_MS = 10;

/** Reads a file, a pipe or a device to its end, or `max` bytes of it. */
function readAtMost(path: string, max: number): Buffer {
  // Opening a pipe to which nobody writes would otherwise never end, nor would the reading.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const giveUpAtMs = monotonicMs() + PIPE_TIMEOUT_MS;
  try {
    const isPipe = fstatSync(file).isFIFO();
    const buffer = Buffer.alloc(max);
    let length = 0;
    while (length < max) {
      const read = readNow(file, buffer, length);
      // A pipe without bytes may not have its writer yet.
      if (read === 0 && (length > 0 || !isPipe)) break;
      if (read > 0) length += read;
      else if (monotonicMs() < giveUpAtMs) sleep(PIPE_POLL_MS);
      else throw Object.assign(new Error('nobody writes to the pipe'), { code: 'ETIMEDOUT' });
    }
    return buffer.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

/** @returns the number of bytes, 0 at the end, or -1 while a pipe is empty */
function readNow(file: number, buffer: Buffer, from: number): number {
  try {
    return readSync(file, buffer, from, buffer.length - from, null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return -1;
    throw error;
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)), 0, 0, ms);
}
