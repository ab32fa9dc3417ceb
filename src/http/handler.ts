/** The interface between the router and the handlers: plain values, nothing of node:http. */
import type { Buffer } from 'node:buffer';
import type { Scope } from './input/api-keys.ts';
import type { HttpResponse } from './response.ts';

/** What a handler is given: nothing of node:http. */
export type HandlerInput = Readonly<{
  path: string;
  body: Buffer;
  /** The values of all Idempotency-Key lines. */
  idempotencyKeys: readonly string[];
  /** The Accept-Language field, of any content and bounded; '' when there is none. */
  acceptLanguage: string;
  /** The name of the caller; null when callers have none. */
  apiClient: string | null;
  /** The counted client address; null when none is counted. */
  clientIp: string | null;
  /** False once the client is gone: then nothing needs to be done for it. */
  isConnected: () => boolean;
}>;

/** How a route serves one method. */
export type MethodHandler = Readonly<{
  /** Whether it takes a JSON body; one that comes though none is taken is read and ignored. */
  takesJson: boolean;
  /** What a caller's key must be good for: one of them is enough. */
  scopes: readonly Scope[];
  handle: (input: HandlerInput) => Promise<HttpResponse>;
}>;
