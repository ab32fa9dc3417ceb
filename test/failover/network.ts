/**
 * The network of the group. In a network namespace of its own each node has a further namespace
 * and an address; this process is the router between them, so it can drop what two nodes send to
 * each other while clients go on reaching both. Where the kernel permits no namespace, all nodes
 * are on the loopback of the machine and nothing can be cut.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { run } from '../../bench/build.ts';
import { eventually } from '../harness/waiting.ts';

export type Network = Readonly<{
  addresses: readonly string[];
  /** What precedes the command of a node, by its index. */
  under: (node: number) => readonly string[];
  /** Drops what one node and the others send to each other; null where that is impossible. */
  cut: ((node: number) => Promise<void>) | null;
  heal: () => Promise<void>;
  close: () => Promise<void>;
}>;

const NODES = [0, 1, 2];

/** A namespace needs root; a user namespace with a root of its own serves as well. */
const UNSHARE: readonly string[] = ['unshare',
  ...(userInfo().uid === 0 ? [] : ['--map-root-user']), '--net'];

/** What the network below needs: addresses, pairs of interfaces, rules and nsenter. */
const TRIAL = `ip link set lo up && ip link add node1 type veth peer name router &&
  ip rule add blackhole from 10.49.0.1 to 10.49.0.2 && nsenter --version`;

export const LOOPBACK: Network = {
  addresses: NODES.map(() => '127.0.0.1'),
  under: () => [],
  cut: null,
  heal: async () => {},
  close: async () => {},
};

/** The network namespace of this process. */
export function ownNamespace(): string {
  return readlinkSync('/proc/self/ns/net');
}

/** Null if this machine permits the namespaces; otherwise why not. */
export function whyNoNamespace(): string | null {
  if (process.platform !== 'linux') return 'network namespaces exist on Linux only';
  const [program = '', ...parameters] = [...UNSHARE, 'sh', '-c', TRIAL];
  const { status, stderr, error } = spawnSync(program, parameters, { encoding: 'utf8' });
  if (status === 0) return null;
  const [line = ''] = (error?.message ?? stderr).trim().split('\n');
  return `no network namespace with a router can be made here (${line})`;
}

/** Runs a command in a new network namespace, passes signals on, and returns its exit code. */
export async function runInNamespace(command: readonly string[]): Promise<number> {
  const [program = '', ...parameters] = [...UNSHARE, ...command];
  const child = spawn(program, parameters, { stdio: 'inherit' });
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => child.kill(name));
  const [code] = await once(child, 'exit') as [number | null];
  return code ?? 1;
}

/** Makes the network inside of the namespace of this process, which has nothing in it yet. */
export async function openNamespaces(): Promise<Network> {
  const holders: ChildProcess[] = [];
  const close = async (): Promise<void> => {
    for (const holder of holders) holder.stdin?.end();
    await Promise.all(holders.map((holder) => holder.exitCode ?? once(holder, 'exit')));
  };
  try {
    await ip('link', 'set', 'lo', 'up');
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    for (const node of NODES) holders.push(await connectNode(node));
  } catch (error) {
    await close();
    throw error;
  }
  const cuts: string[][] = [];
  return {
    addresses: NODES.map(addressOf),
    under: (node) => ['nsenter', `--net=/proc/${holders[node]?.pid}/ns/net`],
    cut: async (node) => {
      for (const other of NODES.filter((each) => each !== node)) {
        for (const [from, to] of [[node, other], [other, node]] as const) {
          const rule = ['blackhole', 'from', addressOf(from), 'to', addressOf(to)];
          await ip('rule', 'add', ...rule);
          cuts.push(rule);
        }
      }
    },
    heal: async () => {
      for (const rule of cuts.splice(0)) await ip('rule', 'del', ...rule);
    },
    close,
  };
}

function addressOf(node: number): string {
  return `10.49.${node + 1}.2`;
}

/** Returns the process that holds the namespace; it ends with its input, so with this process. */
async function connectNode(node: number): Promise<ChildProcess> {
  const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] });
  await once(holder, 'spawn');
  const [id, name, gateway] = [String(holder.pid), `node${node + 1}`, `10.49.${node + 1}.1`];
  await eventually('a node has its namespace', () =>
    readlinkSync(`/proc/${id}/ns/net`) !== ownNamespace());
  await ip('link', 'add', name, 'type', 'veth', 'peer', 'name', 'router', 'netns', id);
  await ip('address', 'add', `${gateway}/30`, 'dev', name);
  await ip('link', 'set', name, 'up');
  await run('/', 'nsenter', `--net=/proc/${id}/ns/net`, 'sh', '-c', `ip link set lo up &&
    ip address add ${addressOf(node)}/30 dev router && ip link set router up &&
    ip route add default via ${gateway}`);
  return holder;
}

async function ip(...parameters: readonly string[]): Promise<void> {
  await run('/', 'ip', ...parameters);
}
