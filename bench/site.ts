/**
 * Where a service stores: the MySQL of the lab, or a group of three on the same machine, with the
 * settings that docs/deploy.md advises.
 */
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import { ACCOUNT, ADVISED, startGroup } from '../test/failover/group.ts';
import { LOOPBACK } from '../test/failover/network.ts';
import { databaseOf } from '../test/failover/service.ts';
import { print } from './build.ts';
import { startServer } from './mysql.ts';
import type { BenchServer } from './mysql.ts';

/** One server or group, as a lab uses it. */
export type Site = Readonly<{
  /** Of the server that takes writes, for root. */
  socketPath: string;
  /** As root, on the server that takes writes. */
  connection: Connection;
  /** Every mysqld whose CPU is part of the cost. */
  processIds: () => readonly number[];
  /** Variables with which an otpd finds its database. */
  environmentFor: (databaseName: string) => Readonly<Record<string, string>>;
  /** Executes one statement as root on every server. */
  queryEach: (sql: string) => Promise<void>;
  /** Stops the servers and removes their data. */
  stop: () => Promise<void>;
}>;

/** Starts the MySQL of a lab. */
export async function openServer(
  signal: AbortSignal,
): Promise<Site & Readonly<{ server: BenchServer }>> {
  const server = await startServer(print, signal);
  const { socketPath } = server;
  const connection = await connect(socketPath, server.stop);
  return {
    server, socketPath, connection,
    processIds: () => [server.processId],
    environmentFor: () => ({}),
    queryEach: async (sql) => { await connection.query(sql); },
    stop: async () => {
      await connection.end().catch(() => {});
      await server.stop();
    },
  };
}

/** Starts a group of three and permits otpd every database of the benchmark. */
export async function openGroup(signal: AbortSignal): Promise<Site> {
  const { nodes, primary, stop } = await startGroup(LOOPBACK, ADVISED, print, signal);
  const { socketPath } = await primary();
  const connection = await connect(socketPath, stop);
  await connection.query(`GRANT ALL ON \`bench\\_%\`.* TO ${ACCOUNT.user}@'%'`);
  return {
    socketPath, connection,
    processIds: () => nodes.map(({ processId }) => processId),
    environmentFor: (databaseName) => databaseOf(nodes, databaseName),
    queryEach: async (sql) => { await Promise.all(nodes.map((node) => node.query(sql))); },
    stop: async () => {
      await connection.end().catch(() => {});
      await stop();
    },
  };
}

async function connect(socketPath: string, stop: () => Promise<void>): Promise<Connection> {
  return mysql.createConnection({ socketPath, user: 'root' }).catch(async (error) => {
    await stop();
    throw error;
  });
}
