/** Behaviours of a sink that stands between a client and otpd. */
import { request } from 'node:http';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Behaviour, Received } from './http-sink.ts';

type Answered = Readonly<{ status: number; headers: OutgoingHttpHeaders; body: Buffer }>;

async function ask(port: number, received: Received): Promise<Answered> {
  const { method, path, headers, body } = received;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ host: '127.0.0.1', port, method, path, headers, agent: false }, resolve)
      .on('error', reject).end(body);
  });
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  const { connection: _, 'keep-alive': __, ...kept } = answer.headers;
  return { status: answer.statusCode ?? 0, headers: kept, body: Buffer.concat(chunks) };
}

/** Passes the request on, and the answer back, after `onAnswer`. */
export function forward(port: number, onAnswer: () => void = () => {}): Behaviour {
  return (response, received) => {
    void ask(port, received).then(({ status, headers, body }) => {
      onAnswer();
      response.writeHead(status, headers).end(body);
    }, () => response.destroy());
  };
}

/** Passes the request on, waits until otpd has answered, and cuts the connection instead. */
export function loseAnswer(port: number): Behaviour {
  return (response, received) => {
    void ask(port, received).finally(() => response.destroy());
  };
}
