/**
 * What a scenario is played on: the real service on a fresh database, in this process or in
 * several of their own, under one clock that stands still between moments.
 */
import { parsePolicies } from '../../src/otp/policy-file.ts';
import type { Policies } from '../../src/otp/policy.ts';
import type { Message } from '../../src/otp/channel.ts';
import { unlockPair } from '../../src/otp/unlock.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startServiceProcess } from '../harness/processes.ts';
import { newSecretsText, startTestService } from '../harness/service.ts';
import type { Scenario } from './scenario.ts';

/** One running service. */
type Server = Readonly<{
  port: number;
  messages: readonly Message[];
  /** Resolves when it has the new time, and all messages that it sent before are known here. */
  setClock: (at: string) => Promise<void>;
  close: () => Promise<void>;
}>;

/** The services of a scenario. */
export type Stage = Readonly<{
  /** The port of a process, from 1; null: the next one, in turn. */
  portOf: (process: number | null) => number;
  /** Moves every clock. Called again with the same time, it makes the messages complete. */
  setClock: (at: string) => Promise<void>;
  /** What an operator does; false when nothing is known of the pair. */
  unlock: (userId: string, purpose: string) => Promise<boolean>;
  /** Every message that was sent, each once, in no order across processes. */
  messages: () => Message[];
  policies: Policies;
  /** Ends all; throws when a session was leaked. */
  close: () => Promise<void>;
}>;

/** Starts what a scenario needs: its policy, its number of processes, an empty database. */
export async function openStage({ policy, processes }: Scenario): Promise<Stage> {
  const parsed = parsePolicies(policy);
  if ('faults' in parsed) throw new Error(parsed.faults.join('; '));
  const { policies } = parsed;
  const database = await createTestDatabase();
  const servers = await startServers(database, { policy, policies, processes });
  let turn = 0;
  return {
    policies,
    portOf: (process) => {
      const index = process === null ? turn++ % servers.length : process - 1;
      return servers[index]!.port;
    },
    setClock: async (at) => {
      database.clock.set(at);
      await Promise.all(servers.map((server) => server.setClock(at)));
    },
    unlock: (userId, purpose) => unlockPair(database.pool, { userId, purpose }),
    messages: () => servers.flatMap((server) => server.messages),
    close: () => closeAll(database, servers),
  };
}

type Settings = Readonly<{ policy: string; policies: Policies; processes: number }>;

/** Several are all started, or none is left running. */
async function startServers(
  database: TestDatabase,
  { policy, policies, processes }: Settings,
): Promise<Server[]> {
  const starts = processes === 1 ? [startHere(database, policies)]
    : startProcesses(database, policy, processes);
  const results = await Promise.allSettled(starts);
  const servers = results.flatMap((result) => result.status === 'fulfilled' ? [result.value] : []);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed === undefined) return servers;
  await closeAll(database, servers);
  throw failed.reason;
}

async function closeAll(database: TestDatabase, servers: readonly Server[]): Promise<void> {
  try {
    await Promise.all(servers.map((server) => server.close()));
  } finally {
    database.close();
  }
}

async function startHere({ pool }: TestDatabase, policies: Policies): Promise<Server> {
  const { port, messages, close } = await startTestService({ pool, policies });
  return { port, messages, close, setClock: async () => {} };
}

function startProcesses(
  { settings }: TestDatabase,
  policy: string,
  count: number,
): Promise<Server>[] {
  const secrets = newSecretsText();
  return Array.from({ length: count }, async () => {
    const { stop, ...process } = await startServiceProcess({ settings, secrets, policy });
    return { ...process, close: stop };
  });
}
