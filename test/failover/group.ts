/**
 * A Group Replication group of three with a single primary: its settings, its formation from
 * nothing, and the return of members that were killed, stopped or cut off.
 */
import { cp, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { initialise } from '../../tools/mysql/data-folder.ts';
import { obtainMysqld } from '../../tools/mysql/fetch/obtain.ts';
import { serverFiles } from '../../tools/mysql/mysqld.ts';
import type { Mysqld } from '../../tools/mysql/mysqld.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { freePort } from '../harness/free-port.ts';
import { eventually } from '../harness/waiting.ts';
import type { Network } from './network.ts';
import { Node } from './node.ts';
import { isReady } from './readiness.ts';

/** The settings that docs/deploy.md advises (docs/deploy.md, "A group of three"). */
export const ADVISED: Readonly<Record<string, string>> = {
  group_replication_member_expel_timeout: '0',
  group_replication_unreachable_majority_timeout: '30',
  group_replication_exit_state_action: 'OFFLINE_MODE',
  replica_parallel_workers: '64',
  // These members do not join by themselves, and outside of their group they must take no writes.
  super_read_only: 'ON',
};

export const ACCOUNT = { name: 'otpd', user: 'otpd', password: 'otpd' } as const;

const REPLICATION_PASSWORD = 'of-this-run-only';

/** START GROUP_REPLICATION answers after the member is known to the group. */
const JOIN_TIMEOUT_MS = 90_000;
const JOIN_TRIES = 5;
const REJOIN_TRIES = 4;
const ONLINE_TIMEOUT_MS = 60_000;
const POLL_MS = 200;

export type Group = Readonly<{
  nodes: readonly Node[];
  version: string;
  /** Holds all data; removed by `stop`. */
  folder: string;
  /** The node that is primary, takes writes and has the majority behind it. */
  primary: () => Promise<Node>;
  /** Makes a secondary the primary, by plan. */
  moveTo: (node: Node) => Promise<void>;
  /** Starts what is down and brings every member back, whatever happened. */
  rejoin: () => Promise<void>;
  /** Kills all nodes and removes their data. */
  stop: () => Promise<void>;
}>;

/**
 * @param settings ADVISED, or others
 * @throws when there is no MySQL or the group does not form; nothing is left then
 */
export async function startGroup(
  network: Network,
  settings: Readonly<Record<string, string>>,
  print: (line: string) => void,
  signal: AbortSignal,
): Promise<Group> {
  const mysqld = await obtainMysqld({ ...readMysqlSettings(process.env), print, signal });
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'otpd-failover-')));
  const nodes: Node[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.kill()));
    await rm(folder, { recursive: true, force: true });
  };
  // A statement may wait for a minute; the end of its server ends it.
  signal.addEventListener('abort', () => nodes.forEach((node) => void node.kill()));
  try {
    print(`Creating three servers in ${folder}.`);
    nodes.push(...await createNodes({ mysqld, folder, network, settings, signal }));
    await Promise.all(nodes.map(async (node) => {
      await node.start(signal);
      await createMemberAccount(node);
    }));
    print('Three servers answer.');
    const members = new Members(nodes, print, signal);
    await members.rejoin();
    await createOtpdAccount(await members.primary());
    return {
      nodes, folder, version: mysqld.versionText, stop,
      primary: () => members.primary(),
      moveTo: async (node) => {
        const [row] = await node.query('SELECT @@GLOBAL.server_uuid AS id');
        await (await members.primary()).query(
          `SELECT group_replication_set_as_primary('${row?.id}')`, JOIN_TIMEOUT_MS);
      },
      rejoin: () => members.rejoin(),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

type CreateOptions = Readonly<{
  mysqld: Mysqld;
  folder: string;
  network: Network;
  settings: Readonly<Record<string, string>>;
  signal: AbortSignal;
}>;

/** One data folder is initialised and copied, without the identity of the server. */
async function createNodes(
  { mysqld, folder, network, settings, signal }: CreateOptions,
): Promise<Node[]> {
  const all = network.addresses.map((_, index) => serverFiles(join(folder, `n${index + 1}`)));
  for (const files of all) await mkdir(files.temporary, { recursive: true, mode: 0o700 });
  const [first, ...others] = all;
  await initialise(mysqld, first!, false, signal);
  await rm(join(first!.data, 'auto.cnf'), { force: true });
  for (const files of others) await cp(first!.data, files.data, { recursive: true });
  const ports: number[] = [];
  for (const _ of all) ports.push(await freePort());
  const seeds = network.addresses.map((address, index) => `${address}:${ports[index]}`);
  const name = randomUUID();
  return all.map((files, index) => new Node({
    index, mysqld, files, address: network.addresses[index]!, port: ports[index]!,
    under: network.under(index),
    groupArguments: [...groupArguments(name, seeds, index), ...settingArguments(settings)],
  }));
}

function groupArguments(name: string, seeds: readonly string[], index: number): string[] {
  const [address, port] = seeds[index]!.split(':');
  return [
    `--bind-address=${address}`, '--skip-name-resolve=ON', '--mysqlx=OFF',
    '--max-connections=300', '--gtid-mode=ON', '--enforce-gtid-consistency=ON', '--log-bin=binlog',
    '--sync-binlog=1', '--innodb-flush-log-at-trx-commit=1',
    `--report-host=${address}`, `--report-port=${port}`,
    '--plugin-load-add=group_replication.so', '--plugin-load-add=mysql_clone.so',
    `--loose-group-replication-group-name=${name}`,
    '--loose-group-replication-communication-stack=MYSQL',
    `--loose-group-replication-local-address=${seeds[index]}`,
    `--loose-group-replication-group-seeds=${seeds.join(',')}`,
    '--loose-group-replication-start-on-boot=OFF',
    '--loose-group-replication-bootstrap-group=OFF',
    '--loose-group-replication-single-primary-mode=ON',
    '--loose-group-replication-recovery-get-public-key=ON',
  ];
}

/** The variables of a plugin are unknown until it is loaded. */
function settingArguments(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).map(([name, value]) =>
    `--${name.startsWith('group') ? 'loose-' : ''}${name.replaceAll('_', '-')}=${value}`);
}

/** The account of the members stays out of the binary log: no node may have a GTID of its own. */
async function createMemberAccount(node: Node): Promise<void> {
  await node.query(`SET SESSION sql_log_bin = 0; SET GLOBAL super_read_only = OFF;
    CREATE USER member@'%' IDENTIFIED BY '${REPLICATION_PASSWORD}';
    GRANT REPLICATION SLAVE, BACKUP_ADMIN, CONNECTION_ADMIN, GROUP_REPLICATION_STREAM
      ON *.* TO member@'%';
    CHANGE REPLICATION SOURCE TO SOURCE_USER = 'member',
      SOURCE_PASSWORD = '${REPLICATION_PASSWORD}' FOR CHANNEL 'group_replication_recovery';
    SET GLOBAL super_read_only = ON`);
}

async function createOtpdAccount(primary: Node): Promise<void> {
  const { name, user, password } = ACCOUNT;
  await primary.query(`CREATE DATABASE ${name};
    CREATE USER ${user}@'%' IDENTIFIED BY '${password}'; GRANT ALL ON ${name}.* TO ${user}@'%';
    GRANT SELECT ON performance_schema.replication_group_members TO ${user}@'%'`);
}

/** The members as they are now. */
class Members {
  readonly #nodes: readonly Node[];
  readonly #print: (line: string) => void;
  readonly #signal: AbortSignal;

  constructor(nodes: readonly Node[], print: (line: string) => void, signal: AbortSignal) {
    this.#nodes = nodes;
    this.#print = print;
    this.#signal = signal;
  }

  async primary(): Promise<Node> {
    let found: Node | undefined;
    await eventually('the group has a primary', async () => {
      this.#signal.throwIfAborted();
      found = await this.#find(async (node) => isReady(await node.look()));
      return found !== undefined;
    });
    return found!;
  }

  /** What is said of members may be seconds old, so one try may not be enough. */
  async rejoin(): Promise<void> {
    for (let left = REJOIN_TRIES; left > 0; left -= 1) {
      this.#signal.throwIfAborted();
      for (const node of this.#nodes) if (!node.isRunning) await this.#restart(node);
      if (await this.#inMajority() === undefined) await this.#bootstrap();
      // One after the other: two that join at the same time collide, which costs 10 s.
      for (const node of this.#nodes) await this.#join(node);
      if (await this.#areOnline()) return;
    }
    throw new Error('the group does not come together');
  }

  async #find(matches: (node: Node) => Promise<boolean>): Promise<Node | undefined> {
    for (const node of this.#nodes) if (await matches(node)) return node;
    return undefined;
  }

  #inMajority(): Promise<Node | undefined> {
    return this.#find(async (node) => {
      const facts = await node.look();
      return facts?.state === 'ONLINE' && facts.hasMajority;
    });
  }

  async #areOnline(): Promise<boolean> {
    const deadline = AbortSignal.timeout(ONLINE_TIMEOUT_MS);
    for (;;) {
      const all = await Promise.all(this.#nodes.map((node) => node.look()));
      // A node that was stopped says ONLINE until it learns that it was expelled.
      const isDone = all.every((facts) => facts?.state === 'ONLINE' && facts.hasMajority
        && facts.members === all.length);
      if (isDone && all.some(isReady)) return true;
      // A member that has left, or that is cut off, does not come back by waiting alone.
      const isWaiting = all.every((facts) => ['ONLINE', 'RECOVERING'].includes(facts?.state ?? ''));
      if (deadline.aborted || !isWaiting) return false;
      this.#signal.throwIfAborted();
      await delay(POLL_MS);
    }
  }

  /** STOP GROUP_REPLICATION takes a minute where a node is expelled; a new start takes seconds. */
  async #restart(node: Node): Promise<void> {
    await node.kill();
    await node.start(this.#signal);
  }

  async #join(node: Node): Promise<void> {
    const state = (await node.look())?.state;
    if (state === 'ONLINE' || state === 'RECOVERING') return;
    if (state !== 'OFFLINE') await this.#restart(node);
    const { address, port } = node.options;
    // START fails slowly while the group still lists the former life of a node that was killed.
    await eventually('the group has expelled the former life of a node', async () => {
      this.#signal.throwIfAborted();
      const member = await this.#inMajority();
      const [row] = await member?.query(`SELECT COUNT(*) AS count
        FROM performance_schema.replication_group_members
        WHERE member_host = '${address}' AND member_port = ${port}`).catch(() => []) ?? [];
      return Number(row?.count) === 0;
    });
    for (let left = JOIN_TRIES; left > 0; left -= 1) {
      this.#signal.throwIfAborted();
      const start = 'SET GLOBAL offline_mode = OFF; START GROUP_REPLICATION';
      const failure = await node.query(start, JOIN_TIMEOUT_MS).then(() => null, (error) => error);
      if (failure === null) return;
      this.#print(`node ${node.options.index + 1} does not join yet: ${failure.message}`);
      await delay(POLL_MS);
    }
  }

  /** Commits that hang are rolled back; the disk of one node has all that was acknowledged. */
  async #bootstrap(): Promise<void> {
    for (const node of this.#nodes) {
      if ((await node.look())?.state !== 'OFFLINE') await this.#restart(node);
    }
    const node = await this.#mostAdvanced();
    await node.query(`SET GLOBAL group_replication_bootstrap_group = ON;
      START GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group = OFF`,
    JOIN_TIMEOUT_MS);
    await eventually('the group has a first member', async () =>
      (await node.look())?.state === 'ONLINE');
  }

  async #mostAdvanced(): Promise<Node> {
    const sets = await Promise.all(this.#nodes.map(async (node) => {
      const [row] = await node.query(`SELECT REPLACE(CONCAT_WS(',',
        NULLIF(@@GLOBAL.gtid_executed, ''), (SELECT NULLIF(received_transaction_set, '')
          FROM performance_schema.replication_connection_status
          WHERE channel_name = 'group_replication_applier')), '\n', '') AS held`);
      return String(row?.held ?? '');
    }));
    const found = await this.#find(async (node) => {
      const own = sets[node.options.index];
      const answers = await Promise.all(sets.map((set) =>
        node.query(`SELECT GTID_SUBSET('${set}', '${own}') AS holds`)));
      return answers.every(([row]) => Number(row?.holds) === 1);
    });
    if (found === undefined) throw new Error('no node holds the transactions of all others');
    return found;
  }
}
