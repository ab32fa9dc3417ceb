/** Services in processes of their own. */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { extname } from 'node:path';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import type { ChannelState } from './service.ts';
import { recordVisible } from './leak-recorder.ts';

export type ServiceProcess = Readonly<{
  port: number;
  processId: number;
  /** Every message that the process has reported as sent, in order. */
  messages: Message[];
  setClock: (text: string | null) => Promise<void>;
  /** Sets what its channel returns for each message. */
  setSendResult: (sendResult: ChannelState['sendResult']) => Promise<void>;
  /** Stops the process; throws when it leaked a connection or failed. */
  stop: () => Promise<void>;
  /** Sends SIGKILL. */
  kill: () => Promise<void>;
}>;

export type ProcessOptions = Readonly<{
  settings: DatabaseSettings;
  /** As in OTP_SECRETS; the processes of one database share it. */
  secrets: string;
  /** The text of a policy file. */
  policy?: string;
  connectionsMax?: number;
  /** As in API_KEYS. Without it the endpoints are public. */
  apiKeys?: string | undefined;
}>;

/** Compiled if this file is compiled, else the source: fork passes `--import tsx` on. */
const PROGRAM = new URL(`service-process${extname(import.meta.url)}`, import.meta.url);

type Report =
  | { kind: 'ready'; port: number }
  | { kind: 'clock' }
  | { kind: 'sendResult' }
  | { kind: 'message'; message: Message };

/** Starts a process and waits until its service is ready. */
export async function startServiceProcess(options: ProcessOptions): Promise<ServiceProcess> {
  const { settings, secrets, policy = '{}', connectionsMax = 32, apiKeys } = options;
  const child = fork(PROGRAM, [], { stdio: 'pipe' });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      recordVisible(chunk.toString());
    });
  }
  const messages: Message[] = [];
  child.on('message', (report: Report) => {
    if (report.kind === 'message') messages.push(report.message);
  });
  const ask = async <K extends Report['kind']>(order: object, kind: K) => {
    try {
      return await exchange(child, order, kind);
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${output}`);
    }
  };
  const { port } = await ask({ settings, secrets, policy, connectionsMax, apiKeys }, 'ready');
  return {
    port,
    processId: child.pid ?? 0,
    messages,
    setClock: async (text) => void await ask({ clock: text }, 'clock'),
    setSendResult: async (sendResult) => void await ask({ sendResult }, 'sendResult'),
    stop: async () => {
      const exit = once(child, 'exit');
      child.send({ stop: true });
      const [code] = await exit;
      if (code !== 0) throw new Error(`the service process ended with ${code}`);
    },
    kill: async () => {
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
  };
}

/** Sends an order and waits for its report; rejects when the process exits first. */
function exchange<K extends Report['kind']>(
  child: ChildProcess,
  order: object,
  kind: K,
): Promise<Extract<Report, { kind: K }>> {
  return new Promise((resolve, reject) => {
    const onClose = (code: number | null): void => {
      reject(new Error(`the service process ended with ${code}`));
    };
    const onReport = (report: Report): void => {
      if (report.kind !== kind) return;
      child.off('message', onReport);
      child.off('close', onClose);
      resolve(report as Extract<Report, { kind: K }>);
    };
    child.on('message', onReport);
    child.once('close', onClose);
    // Without a callback, a failed send emits an error event, which would end this process.
    child.send(order, (error) => {
      if (error !== null) reject(error);
    });
  });
}
