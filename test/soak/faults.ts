/** The faults of the soak. Each acts on real processes and connections and ends by itself. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import type { BenchServer } from '../../bench/mysql.ts';
import type { Target } from '../../bench/target.ts';
import { childrenOf } from '../../bench/usage.ts';
import type { CuttingProxy } from '../proof/cutting-proxy.ts';

/** otpd, its MySQL and the proxy between them. */
export type Service = Readonly<{ server: BenchServer; proxy: CuttingProxy; target: Target }>;

/** A fault; `run` resolves when the cause has ended. */
export type Fault = Readonly<{ name: string; run: (service: Service) => Promise<void> }>;

/** How long a fault lasts that has no end of its own. */
const DURATION_MS = 4000;

const SLOW_SOCKETS = 500;

/** A connection of root that bypasses the proxy. */
function administrator({ server: { socketPath } }: Service): Promise<Connection> {
  return mysql.createConnection({ socketPath, user: 'root' });
}

async function withSetting(
  service: Service,
  begin: string,
  end: string,
  meanwhile: () => void = () => {},
): Promise<void> {
  const connection = await administrator(service);
  await connection.query(begin);
  meanwhile();
  await delay(DURATION_MS);
  await connection.query(end);
  await connection.end();
}

async function holdSlowClients({ target: { port } }: Service): Promise<void> {
  const sockets = new Set<Socket>();
  for (let at = 0; at < SLOW_SOCKETS; at += 1) {
    const socket = connect(port, '127.0.0.1', () => socket.write('POST /otp/request HTTP/1.1\r\n'));
    socket.on('error', () => {});
    sockets.add(socket);
  }
  await delay(DURATION_MS);
  for (const socket of sockets) socket.destroy();
}

/** The faults in the order in which they are repeated. */
export const FAULTS: readonly Fault[] = [
  { name: 'mysqld killed (kill -9) and started', run: async ({ server }) => {
    await server.end('SIGKILL');
    await server.start();
  } },
  { name: 'read-only server, 4 s', run: (service) => withSetting(service,
    'SET GLOBAL super_read_only = ON',
    'SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF') },
  { name: 'silent connections, 4 s', run: async ({ proxy }) => {
    proxy.setMode('silent');
    await delay(DURATION_MS);
    proxy.setMode('pass');
  } },
  { name: 'a worker killed (kill -9)', run: async ({ target }) => {
    process.kill(childrenOf(target.processId)[0]!, 'SIGKILL');
  } },
  { name: 'a reload and a rolling restart', run: async ({ target }) => {
    process.kill(target.processId, 'SIGHUP');
    process.kill(target.processId, 'SIGUSR2');
  } },
  { name: 'too many connections, 4 s', run: async (service) => {
    // MySQL admits one administrator over max_connections: two connections leave none for otpd.
    const second = await administrator(service);
    await withSetting(service, 'SET GLOBAL max_connections = 1',
      'SET GLOBAL max_connections = 500', () => {
        service.proxy.setMode('closed');
        service.proxy.setMode('pass');
      });
    await second.end();
  } },
  { name: 'mysqld restarted by SIGTERM', run: async ({ server }) => {
    await server.end('SIGTERM');
    await server.start();
  } },
  { name: 'connections cut and refused, 4 s', run: async ({ proxy }) => {
    proxy.setMode('closed');
    await delay(DURATION_MS);
    proxy.setMode('pass');
  } },
  { name: '500 slow clients, 4 s', run: holdSlowClients },
];
