/**
 * What a scenario is played on: the real service on a fresh database, in this process or in
 * several of their own, under one clock that stands still between moments.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { unlockPair } from '../../src/otp/unlock.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { openTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startServiceProcess } from '../harness/processes.ts';
import { newSecretsText, startTestService } from '../harness/service.ts';
import type { ChannelState } from '../harness/service.ts';
import type { Scenario } from './scenario.ts';

/** How long a message may be on its way on a busy machine, and how often it is looked for. */
const POLL_BOUND_MS = 30_000;
const POLL_MS = 10;

/** One running service. */
type Server = Readonly<{
  port: number;
  messages: readonly Message[];
  /** Resolves when it has the new time, and all messages that it sent before are known here. */
  setClock: (at: string) => Promise<void>;
  setSendResult: (sendResult: ChannelState['sendResult']) => Promise<void>;
  close: () => Promise<void>;
}>;

/** The services of a scenario. */
export type Fixture = Readonly<{
  /** The port of a process, from 1; null: the next one, in turn. */
  portOf: (process: number | null) => number;
  /** What a apiClient sends to be let in. */
  headersOf: (apiClient: string) => Record<string, string>;
  /** Moves every clock. Called again with the same time, it makes the messages complete. */
  setClock: (at: string) => Promise<void>;
  /** What an operator does; false when nothing is known of the pair. */
  unlock: (userId: string, purpose: string) => Promise<boolean>;
  /** What the channel says to every message from now on. */
  setSendResult: (sendResult: ChannelState['sendResult']) => Promise<void>;
  /** Waits, bounded, until no message is on its way; resolves with how many still are. */
  settle: () => Promise<number>;
  /** The message of a code, which may leave after the answer: waits for it, bounded. */
  messageOf: (otpId: unknown) => Promise<Message | undefined>;
  /** Every message that was sent, each once, in no order across processes. */
  messages: () => Message[];
  policies: Policies;
  /** Ends all; throws when a connection was leaked. */
  close: () => Promise<void>;
}>;

/** Starts the processes of a scenario, with its policy, on a database with empty tables. */
export async function openFixture(
  { policy, processes, apiClients }: Scenario,
  settings: DatabaseSettings,
): Promise<Fixture> {
  const parsed = parsePolicies(policy);
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  const { policies } = parsed;
  const database = openTestDatabase(settings);
  const { apiKeys: keys, headersOf } = newApiClients(apiClients);
  const apiKeys = apiClients.length === 0 ? undefined : keys;
  const servers = await startServers(database, { policy, policies, processes, apiKeys });
  const messages = (): Message[] => servers.flatMap((server) => server.messages);
  let turn = 0;
  return {
    policies,
    headersOf,
    portOf: (process) => {
      const index = process === null ? turn++ % servers.length : process - 1;
      return servers[index]!.port;
    },
    setClock: async (at) => {
      database.clock.set(at);
      await Promise.all(servers.map((server) => server.setClock(at)));
    },
    unlock: (userId, purpose) => unlockPair(database.pool, { userId, purpose }),
    setSendResult: async (sendResult) => {
      await Promise.all(servers.map((server) => server.setSendResult(sendResult)));
    },
    settle: () => poll(() => countPending(database), (pending) => pending === 0),
    messageOf: (otpId) => poll(
      () => messages().find((message) => message.otpId === otpId),
      (message) => message !== undefined,
    ),
    messages,
    close: () => closeAll(database, servers),
  };
}

/** Messages that are on their way, or will be tried again. */
async function countPending({ query }: TestDatabase): Promise<number> {
  const [row] = await query('SELECT COUNT(*) AS pending FROM outbox');
  return Number(row?.pending);
}

/** Looks again and again, until it is enough or the bound is reached. */
async function poll<T>(look: () => T | Promise<T>, isEnough: (found: T) => boolean): Promise<T> {
  const start = performance.now();
  for (;;) {
    const found = await look();
    if (isEnough(found) || performance.now() - start > POLL_BOUND_MS) return found;
    await delay(POLL_MS);
  }
}

type Settings = Readonly<{
  policy: string;
  policies: Policies;
  processes: number;
  apiKeys: string | undefined;
}>;

/** Several are all started, or none is left running. */
async function startServers(
  database: TestDatabase,
  settings: Settings,
): Promise<Server[]> {
  const starts = settings.processes === 1 ? [startHere(database, settings)]
    : startProcesses(database, settings);
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

async function startHere(
  { pool }: TestDatabase,
  { policies, apiKeys }: Settings,
): Promise<Server> {
  const state: ChannelState = { sendResult: 'accepted' };
  const { port, messages, close } = await startTestService({ pool, policies, state, apiKeys });
  return {
    port,
    messages,
    close,
    setClock: async () => {},
    setSendResult: async (sendResult) => { state.sendResult = sendResult; },
  };
}

function startProcesses(
  { settings }: TestDatabase,
  { policy, processes, apiKeys }: Settings,
): Promise<Server>[] {
  const secrets = newSecretsText();
  const options = { settings, secrets, policy, apiKeys };
  return Array.from({ length: processes }, async () => {
    const { stop, ...process } = await startServiceProcess(options);
    return { ...process, close: stop };
  });
}
