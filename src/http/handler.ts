/** The interface between an exchange and the handlers: plain values, nothing of node:http. */
import type { Buffer } from 'node:buffer';
import type { Scope } from './input/api-keys.ts';
import type { ClientAddress } from '../otp/outcomes.ts';
import type { FieldError, HttpResponse } from './response.ts';

export type HandlerInput = ClientAddress & Readonly<{
  path: string;
  body: Buffer;
  /** The values of all Idempotency-Key lines of the header section. */
  idempotencyKeys: readonly string[];
  /** Accept-Language, unparsed and bounded; '' when absent. */
  acceptLanguage: string;
  /** Otp-Device, unparsed; '' when absent. */
  deviceTokens: string;
  /** The name of the API client; null when the endpoints are public. */
  apiClient: string | null;
  /** The scopes of the API client; none when the endpoints are public. */
  scopes: readonly Scope[];
  /** The purposes that the API client may use; null: every purpose. */
  purposes: ReadonlySet<string> | null;
  /** False once the client has disconnected. */
  isConnected: () => boolean;
  /** When the response is due, by a monotonic clock. */
  answerByMs: number;
}>;

export type MethodHandler = Readonly<{
  /** The content that the method needs; null when a body is read and ignored. */
  content: 'json' | 'form' | null;
  /** The API key must have one of these scopes; null: none is needed, the path is the proof. */
  scopes: readonly Scope[] | null;
  /** Parses all Idempotency-Key lines; null when the method needs no key and none was sent. */
  parseKey: (values: readonly string[]) => string | FieldError | null;
  handle: (input: HandlerInput) => Promise<HttpResponse>;
}>;
