/** An HTTP client for tests that records every response for the leak check. */
import { Agent, request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { recordAnswer } from './answer-recorder.ts';
import { recordVisible } from './leak-recorder.ts';

export type Reply = Readonly<{
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** The parsed body; `{}` when it is empty. */
  body: Record<string, unknown>;
}>;

export type Call = Readonly<{
  port: number;
  path: string;
  /** POST by default. */
  method?: 'POST' | 'GET' | 'DELETE';
  /** A text is sent unchanged, any other value as JSON. */
  body?: unknown;
  /** Sent as X-Forwarded-For; the services under test trust loopback as a proxy. */
  address?: string | undefined;
  key?: string | undefined;
  headers?: Record<string, string>;
}>;

const agent = new Agent({ keepAlive: true, maxSockets: Infinity });

/** Sends a request. Rejects when the connection breaks before the response is complete. */
export function send(call: Call): Promise<Reply> {
  const { method = 'POST' } = call;
  const headers: Record<string, string> = {
    ...(call.body === undefined ? {} : { 'Content-Type': 'application/json' }),
    ...(call.address === undefined ? {} : { 'X-Forwarded-For': call.address }),
    ...(call.key === undefined ? {} : { 'Idempotency-Key': call.key }),
    ...call.headers,
  };
  const body = call.body === undefined || typeof call.body === 'string'
    ? call.body : JSON.stringify(call.body);
  if (body !== undefined) headers['Content-Length'] = String(Buffer.byteLength(body));
  return new Promise((resolve, reject) => {
    const options = { agent, host: '127.0.0.1', port: call.port, path: call.path };
    const sent = request({ ...options, method, headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk: string) => { text += chunk; });
      answer.on('error', reject);
      answer.on('end', () => {
        const status = answer.statusCode ?? 0;
        recordVisible(`${status} ${JSON.stringify(answer.rawHeaders)} ${text}`);
        recordAnswer({
          request: { method, target: call.path }, status, headers: answer.rawHeaders, body: text,
        }, body);
        const parsed = text === '' ? {} : JSON.parse(text) as Record<string, unknown>;
        resolve({ status, headers: answer.headers, text, body: parsed });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

export function post(call: Omit<Call, 'method'>): Promise<Reply> {
  return send(call);
}

/** Closes idle connections, so that servers and processes can stop. */
export function closeClient(): void {
  agent.destroy();
}
