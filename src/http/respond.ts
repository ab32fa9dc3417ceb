/** The one function that writes a response. */
import { Buffer } from 'node:buffer';
import type { ServerResponse } from 'node:http';
import type { Answer } from './answer.ts';
import { STATUS } from './status.ts';

/** The items of the list below that speak of content: two names, two values. */
const CONTENT_ITEMS = 4;

/**
 * Writes an answer in one piece: status line, headers and body. Node adds Date and, on a
 * connection that stays open, Keep-Alive; it leaves the body out for HEAD (RFC 9110, 9.3.2). An
 * answer without a body says nothing of content (RFC 9110, 8.6).
 *
 * @param res a response that nothing has been written to
 * @param requestId the value of X-Request-Id
 * @param close whether this is the last answer on its connection
 */
export function respond(
  res: ServerResponse,
  answer: Answer,
  requestId: string,
  close: boolean,
): void {
  // The headers of every response (contract, "Headers"; OWASP REST cheat sheet for the CSP).
  const headers = [
    'Content-Type', answer.contentType ?? 'application/json',
    'Content-Length', String(Buffer.byteLength(answer.body)),
    'X-Request-Id', requestId,
    'Cache-Control', 'no-store',
    'X-Content-Type-Options', 'nosniff',
    'Content-Security-Policy', "frame-ancestors 'none'",
    ...answer.headers,
  ];
  if (answer.body === '') headers.splice(0, CONTENT_ITEMS);
  if (close) headers.push('Connection', 'close');
  res.writeHead(STATUS[answer.code], headers);
  res.end(answer.body);
}
