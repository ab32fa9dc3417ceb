/** Local mail servers: a real one, and one that responds as a script says. */
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { SMTPServer } from 'smtp-server';
import type { SMTPServerOptions } from 'smtp-server';
import type { Certificate } from '../../../harness/certificate.ts';

/** A message that the server has accepted. */
export type Mail = Readonly<{
  from: string;
  to: string[];
  user: string;
  isSecure: boolean;
  raw: string;
}>;

export type MailServer = Readonly<{ port: number; mails: Mail[]; connections: () => number }>;

const running: { close: () => Promise<void> }[] = [];

/** Starts a server that accepts every message of `otpd` with the password `p@ss/word#1`. */
export async function startMailServer(
  { key, cert }: Certificate,
  options: SMTPServerOptions = {},
): Promise<MailServer> {
  const mails: Mail[] = [];
  let connections = 0;
  const server = new SMTPServer({
    key,
    cert,
    logger: false,
    disableReverseLookup: true,
    authMethods: ['PLAIN', 'LOGIN'],
    onConnect: (_, done) => { connections += 1; done(); },
    onAuth: ({ username, password }, _, done) => {
      if (username === 'otpd' && password === 'p@ss/word#1') done(null, { user: username });
      else done(answer(535, 'wrong password for otpd'));
    },
    onData: (stream, session, done) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? '' : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          user: String(session.user ?? ''),
          isSecure: session.secure,
          raw: Buffer.concat(chunks).toString('utf8'),
        });
        done();
      });
    },
    ...options,
  });
  server.on('error', () => {});
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  running.push({ close: () => new Promise((resolve) => {
    for (const { _socket: socket } of server.connections) socket?.destroy();
    server.close(resolve);
  }) });
  const { port } = server.server.address() as AddressInfo;
  return { port, mails, connections: () => connections };
}

/** A response other than 250. */
export function answer(responseCode: number, text: string): Error {
  return Object.assign(new Error(text), { responseCode });
}

/** The response to each command; null for none, `cut` to close the connection. */
export type Script = Readonly<Record<string, string | null>>;

export type ScriptedServer = Readonly<{
  port: number;
  /** The commands of all connections; `connect` stands for a new connection. */
  commands: string[];
  hangUp: () => void;
}>;

const CUT = 'cut';

const USUAL: Script = {
  connect: '220 test', EHLO: '250 test', MAIL: '250 ok', RCPT: '250 ok', DATA: '354 go on',
  '.': '250 ok', QUIT: '221 bye', RSET: '250 ok',
};

/** Starts a server that reads its script at each command and has defaults for the others. */
export async function startScripted(script: Script): Promise<ScriptedServer> {
  const commands: string[] = [];
  const answerTo = (command: string): string | null => {
    const text = script[command];
    return text === undefined ? USUAL[command] ?? '502 what?' : text;
  };
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    const act = (command: string): void => {
      commands.push(command);
      const text = answerTo(command);
      if (text === CUT) socket.destroy();
      else if (text !== null) socket.write(`${text}\r\n`);
    };
    let isInData = false;
    let rest = '';
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\r\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (isInData && line !== '.') continue;
        isInData = line.startsWith('DATA') && answerTo('DATA')?.startsWith('3') === true;
        act(line.split(/[ :]/)[0]!.toUpperCase());
      }
    });
    act('connect');
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const hangUp = (): void => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  running.push({ close: () => new Promise((resolve) => {
    hangUp();
    server.close(() => resolve());
  }) });
  return { port: (server.address() as AddressInfo).port, commands, hangUp };
}

export async function stopMailServers(): Promise<void> {
  await Promise.all(running.splice(0).map(({ close }) => close()));
}
