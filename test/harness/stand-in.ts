/** A server that greets as MySQL, or as another product, and refuses every login. */
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export type StandIn = Readonly<{
  port: number;
  /** All bytes that clients have sent. */
  received: () => Buffer;
  close: () => Promise<void>;
}>;

type StandInOptions = Readonly<{
  /** The version in the greeting. */
  version: string;
  /** The error instead of the greeting. */
  refusal?: number;
  /** The error that answers the login. */
  loginError?: number;
}>;

/** One packet of the protocol: three bytes of length, the sequence number, the payload. */
export function packet(sequence: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUIntLE(payload.length, 0, 3);
  head[3] = sequence;
  return Buffer.concat([head, payload]);
}

export function greeting(version: string): Buffer {
  return packet(0, Buffer.concat([
    Buffer.from([10]), Buffer.from(`${version}\0`), Buffer.from('07000000', 'hex'),
    Buffer.from('12345678\0'), Buffer.from('fff7ff0200ff8115', 'hex'), Buffer.alloc(10),
    Buffer.from('123456789012\0'), Buffer.from('mysql_native_password\0'),
  ]));
}

export function errorPacket(sequence: number, errno: number): Buffer {
  const number = Buffer.alloc(2);
  number.writeUInt16LE(errno);
  const state = sequence === 0 ? '' : '#HY000';
  return packet(sequence, Buffer.concat([Buffer.from([0xff]), number, Buffer.from(`${state}no`)]));
}

export async function startStandIn(options: StandInOptions): Promise<StandIn> {
  const { version, refusal, loginError = 1045 } = options;
  const chunks: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      socket.end(errorPacket(2, loginError));
    });
    if (refusal === undefined) socket.write(greeting(version));
    else socket.end(errorPacket(0, refusal));
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    port: (server.address() as AddressInfo).port,
    received: () => Buffer.concat(chunks),
    close: async () => {
      const closed = new Promise((resolve) => { server.close(resolve); });
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
