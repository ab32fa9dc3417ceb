/** The faults of the soak: each is done to real processes and connections, and ends by itself. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { CounterReader } from '../counters.ts';
import type { BenchServer } from '../mysql.ts';
import type { Target } from '../target.ts';
import { childrenOf } from '../usage.ts';
import type { CuttingProxy } from '../../test/proof/cutting-proxy.ts';

/** What the faults are done to. */
export type Victim = Readonly<{
  server: BenchServer;
  proxy: CuttingProxy;
  target: Target;
  /** Opens a session of an administrator, beside the proxy. */
  administrator: () => Promise<CounterReader>;
}>;

/** A fault: resolves when it is over, and everything could work again. */
export type Fault = Readonly<{ name: string; run: (victim: Victim) => Promise<void> }>;

/** How long those last that do not end by themselves. */
const LASTS_MS = 4000;

const SLOW_SOCKETS = 500;

async function withAdministrator(
  { administrator }: Victim,
  begin: string,
  end: string,
  meanwhile: () => void = () => {},
): Promise<void> {
  const session = await administrator();
  await session.run(begin);
  meanwhile();
  await delay(LASTS_MS);
  await session.run(end);
  await session.close();
}

async function beSlow({ target: { port } }: Victim): Promise<void> {
  const sockets = new Set<Socket>();
  for (let at = 0; at < SLOW_SOCKETS; at += 1) {
    const socket = connect(port, '127.0.0.1', () => socket.write('POST /otp/request HTTP/1.1\r\n'));
    socket.on('error', () => {});
    sockets.add(socket);
  }
  await delay(LASTS_MS);
  for (const socket of sockets) socket.destroy();
}

/** In the order in which they come, again and again. */
export const FAULTS: readonly Fault[] = [
  { name: 'mysqld killed (kill -9), and started', run: async ({ server }) => {
    await server.end('SIGKILL');
    await server.start();
  } },
  { name: 'read-only server, 4 s', run: (victim) => withAdministrator(victim,
    'SET GLOBAL super_read_only = ON',
    'SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF') },
  { name: 'connections silent, 4 s', run: async ({ proxy }) => {
    proxy.setMode('silent');
    await delay(LASTS_MS);
    proxy.setMode('pass');
  } },
  { name: 'a worker killed (kill -9)', run: async ({ target }) => {
    process.kill(childrenOf(target.processId)[0]!, 'SIGKILL');
  } },
  { name: 'a reload and a rolling restart', run: async ({ target }) => {
    process.kill(target.processId, 'SIGHUP');
    process.kill(target.processId, 'SIGUSR2');
  } },
  { name: 'too many connections, 4 s', run: async (victim) => {
    // One, and one more for an administrator: both are taken.
    const second = await victim.administrator();
    await withAdministrator(victim, 'SET GLOBAL max_connections = 1',
      'SET GLOBAL max_connections = 500', () => {
        victim.proxy.setMode('closed');
        victim.proxy.setMode('pass');
      });
    await second.close();
  } },
  { name: 'mysqld restarted in order', run: async ({ server }) => {
    await server.end('SIGTERM');
    await server.start();
  } },
  { name: 'connections cut, none let in, 4 s', run: async ({ proxy }) => {
    proxy.setMode('closed');
    await delay(LASTS_MS);
    proxy.setMode('pass');
  } },
  { name: '500 slow clients, 4 s', run: beSlow },
];
