/** Two MySQL servers that are reached by TCP, of which one replicates from the other. */
import { readFileSync } from 'node:fs';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import type { Row } from '../../src/db/query.ts';
import { createMigrated, newDatabaseName, runStatement, settingsFor } from '../harness/database.ts';
import { freePort } from '../harness/free-port.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';

export type PairedServer = Readonly<{
  label: string;
  port: number;
  /** Runs one statement as root. */
  asRoot: (sql: string) => Promise<Row[]>;
  /** How many sessions of otpd use the database. */
  countSessions: () => Promise<number>;
  setReadOnly: (isOn: boolean) => Promise<void>;
  /** Sends a signal to mysqld. */
  signal: (name: NodeJS.Signals) => Promise<void>;
}>;

export type Pair = Readonly<{
  database: string;
  first: PairedServer;
  second: PairedServer;
  /** Makes one server replicate from the other. */
  follow: (replica: PairedServer, source: PairedServer) => Promise<void>;
  /** Resolves when the replica has everything that the source has committed. */
  catchUp: (replica: PairedServer, source: PairedServer) => Promise<void>;
  stop: () => Promise<void>;
}>;

/** The account of otpd, without a password: a server without TLS has no other that is quick. */
export const USER = 'otpd';

const CATCH_UP_SECONDS = 60;

/** Starts the pair; the second server is read-only and replicates from the first one. */
export async function startPair(): Promise<Pair> {
  const servers = await Promise.all([startDurableServer(), startDurableServer()]);
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop()));
  };
  try {
    const database = newDatabaseName();
    const [first, second] = await Promise.all(servers.map((server, index) =>
      openToNetwork(server, database, index + 1))) as [PairedServer, PairedServer];
    const settings = settingsFor(database, servers[0].settings.socketPath!);
    await first.asRoot(`CREATE USER ${USER}`);
    await first.asRoot(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${database}.* TO ${USER}`);
    await first.asRoot(`CREATE USER replication`);
    await first.asRoot('GRANT REPLICATION SLAVE ON *.* TO replication');
    (await createMigrated(settings)).close();
    await follow(second, first);
    await catchUp(second, first);
    return { database, first, second, follow, catchUp, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function openToNetwork(
  server: DurableServer,
  database: string,
  serverId: number,
): Promise<PairedServer> {
  const port = await freePort();
  await server.restartWith([
    `--port=${port}`, '--bind-address=127.0.0.1', `--server-id=${serverId}`,
    `--log-bin=${server.path('mysql/binlog')}`, `--relay-log=${server.path('mysql/relay')}`,
    '--gtid-mode=ON', '--enforce-gtid-consistency=ON',
  ], ['--skip-networking', '--skip-log-bin']);
  const settings: DatabaseSettings = { ...server.settings, database: null };
  const asRoot = (sql: string): Promise<Row[]> => runStatement(settings, sql);
  const [row] = await asRoot('SELECT @@pid_file AS path');
  const processId = Number(readFileSync(String(row?.path), 'utf8'));
  return {
    label: `127.0.0.1:${port}`,
    port,
    asRoot,
    countSessions: async () => {
      const rows = await asRoot(`SELECT id FROM information_schema.processlist
        WHERE user = '${USER}' AND db = '${database}'`);
      return rows.length;
    },
    setReadOnly: async (isOn) => {
      await asRoot(isOn ? 'SET GLOBAL super_read_only = ON'
        : 'SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF');
    },
    signal: async (name) => { process.kill(processId, name); },
  };
}

async function follow(replica: PairedServer, source: PairedServer): Promise<void> {
  await replica.setReadOnly(true);
  await replica.asRoot(`CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1',
    SOURCE_PORT = ${source.port}, SOURCE_USER = 'replication', SOURCE_AUTO_POSITION = 1,
    SOURCE_SSL = 0, SOURCE_CONNECT_RETRY = 1`);
  await replica.asRoot('START REPLICA');
}

async function catchUp(replica: PairedServer, source: PairedServer): Promise<void> {
  const [executed] = await source.asRoot('SELECT @@GLOBAL.gtid_executed AS gtids');
  const [waited] = await replica.asRoot(
    `SELECT WAIT_FOR_EXECUTED_GTID_SET('${executed?.gtids}', ${CATCH_UP_SECONDS}) AS isLate`);
  if (Number(waited?.isLate) === 0) return;
  const [status] = await replica.asRoot('SHOW REPLICA STATUS');
  const { Last_IO_Error: received, Last_SQL_Error: applied } = status ?? {};
  throw new Error(`the replica did not catch up: ${received} ${applied}`);
}
