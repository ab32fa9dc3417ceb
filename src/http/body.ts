/** The bounded readers of request bodies: of one that is there already, and of one to come. */
import { Buffer } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { ErrorCode } from './status.ts';

/** The largest body (contract, "Errors"): thrice the longest valid one, escapes aside. */
export const BODY_MAX_BYTES = 4096;

/** How reading ends: the bytes, why they could not be had, or null when the client is gone. */
export type BodyResult = Buffer | ErrorCode | null;

/** A body that is being read. */
export type BodyReading = Readonly<{
  result: Promise<BodyResult>;
  /** Ends the reading with a fault that the parser or a time limit has found. */
  fail: (code: ErrorCode) => void;
}>;

/**
 * Takes a body that has come in one piece with its header section, as nearly all do: without the
 * listeners and events of a stream, which cost more than everything else that is done for it.
 *
 * @param declaredBytes the Content-Length, at most BODY_MAX_BYTES; null when there is none
 * @returns the whole body, or null when it must be read
 */
export function takeBody(req: IncomingMessage, declaredBytes: number | null): Buffer | null {
  return req.readableLength === declaredBytes ? req.read() as Buffer | null : null;
}

/**
 * Reads a body of at most BODY_MAX_BYTES, whatever its framing. How long it may take is bounded by
 * the server's requestTimeout, which ends in `fail`.
 *
 * @returns the reading; its result never rejects, and is `payload_too_large` at the first byte
 *   over the bound (RFC 9110, 15.5.14)
 */
export function readBody(req: IncomingMessage): BodyReading {
  let settle: (result: BodyResult) => void = () => {};
  const result = new Promise<BodyResult>((resolve) => { settle = resolve; });
  const chunks: Buffer[] = [];
  let size = 0;
  req.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= BODY_MAX_BYTES) chunks.push(chunk);
    else settle('payload_too_large');
  });
  req.on('end', () => settle(chunks.length === 1 ? chunks[0] as Buffer : Buffer.concat(chunks)));
  // 'close' without 'end': the client went away. After 'end' it settles nothing.
  req.on('close', () => settle(null));
  return { result, fail: settle };
}
