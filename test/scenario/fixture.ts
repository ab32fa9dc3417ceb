/**
 * The services of a scenario: on an empty database, in this process or in several others, with one
 * clock that stands still between moments.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { addSeconds, parseInstant } from '../../src/db/instant.ts';
import type { Instant } from '../../src/db/instant.ts';
import type { Scope } from '../../src/http/input/api-keys.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { revokeDevices, unlockUser } from '../../src/otp/support.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { openTestDatabase } from '../harness/database.ts';
import { parseDeviceToken } from '../harness/device-token.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startServiceProcess } from '../harness/processes.ts';
import { newSecretsText, secretsOf, startTestService } from '../harness/service.ts';
import type { ChannelState } from '../harness/service.ts';
import type { Scenario } from './scenario.ts';

/** A bound for a message on a busy machine, and the interval of polling. */
const POLL_BOUND_MS = 30_000;
const POLL_MS = 10;

const CALLER_SCOPES: readonly Scope[] = ['request', 'verify', 'read'];

type Server = Readonly<{
  port: number;
  messages: readonly Message[];
  /** Resolves when the service has the new time and has reported all messages sent before. */
  setClock: (at: string) => Promise<void>;
  setSendResult: (sendResult: ChannelState['sendResult']) => Promise<void>;
  close: () => Promise<void>;
}>;

export type Fixture = Readonly<{
  /** The port of a process, from 1; null: the next one, in turn. */
  portOf: (process: number | null) => number;
  /** The Authorization header of an API client. */
  headersOf: (apiClient: string) => Record<string, string>;
  /** Moves every clock. A second call with the same time waits for the messages sent so far. */
  setClock: (at: string) => Promise<void>;
  /** Unlocks a user or a pair as an operator does; false when there is no record of it. */
  unlock: (userId: string, purpose: string | null) => Promise<boolean>;
  /** Revokes the device that has the token, or all devices of a user. */
  revoke: (userId: string, token: string | null) => Promise<void>;
  /** Sets what the channel returns for every message. */
  setSendResult: (sendResult: ChannelState['sendResult']) => Promise<void>;
  /** Waits, with a bound, until no message is pending; resolves with the number of pending ones. */
  settle: () => Promise<number>;
  /** Waits, with a bound, for the message of a code, which may be sent after the response. */
  messageOf: (otpId: unknown) => Promise<Message | undefined>;
  /** The code of a test identity, who gets no message; null for any other user. */
  fixedCodeOf: (userId: string, purpose: string) => string | null;
  /** Every message that was sent, each once, without order across processes. */
  messages: () => Message[];
  policies: Policies;
  /** Stops all services; throws when a connection was leaked. */
  close: () => Promise<void>;
}>;

/** Starts the processes of a scenario, with its policy, on a database with empty tables. */
export async function openFixture(
  { policy, processes, apiClients, destinationCallers }: Scenario,
  settings: DatabaseSettings,
): Promise<Fixture> {
  const parsed = parsePolicies(policy);
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  const { policies } = parsed;
  const database = openTestDatabase(settings);
  const { apiKeys: keys, headersOf } = newApiClients(apiClients, (name) =>
    destinationCallers.includes(name) ? [...CALLER_SCOPES, 'to'] : CALLER_SCOPES);
  const apiKeys = apiClients.length === 0 ? undefined : keys;
  const secretsText = newSecretsText();
  const secrets = secretsOf(secretsText);
  const servers = await startServers(database,
    { policy, policies, processes, apiKeys, secrets: secretsText });
  const messages = (): Message[] => servers.flatMap((server) => server.messages);
  let turn = 0;
  let now: Instant = 0;
  return {
    policies,
    headersOf,
    portOf: (process) => {
      const index = process === null ? turn++ % servers.length : process - 1;
      return servers[index]!.port;
    },
    setClock: async (at) => {
      database.clock.set(at);
      now = parseInstant(at);
      await Promise.all(servers.map((server) => server.setClock(at)));
    },
    unlock: async (userId, purpose) => {
      const deps = { pool: database.pool, policies, secrets };
      return (await unlockUser(deps, userId, purpose)).outcome !== 'unknown';
    },
    revoke: async (userId, token) => {
      const device = token === null ? null : parseDeviceToken(token).device;
      await revokeDevices({ pool: database.pool, secrets }, userId, device);
    },
    setSendResult: async (sendResult) => {
      await Promise.all(servers.map((server) => server.setSendResult(sendResult)));
    },
    settle: () => poll(() => countPending(database), (pending) => pending === 0),
    messageOf: (otpId) => poll(
      () => messages().find((message) => message.otpId === otpId),
      (message) => message !== undefined,
    ),
    fixedCodeOf: (userId, purpose) => policies.testIdentities.codeFor(userId, purpose,
      addSeconds(now, policies.for(purpose).lifetimeSeconds)),
    messages,
    close: () => closeAll(database, servers),
  };
}

/** Messages that are being sent, or will be sent again. */
async function countPending({ query }: TestDatabase): Promise<number> {
  const [row] = await query('SELECT COUNT(*) AS pending FROM outbox');
  return Number(row?.pending);
}

/** Repeats `look` until `isEnough` or the bound. */
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
  /** As in OTP_SECRETS. */
  secrets: string;
}>;

/** Starts all services, or none if one fails. */
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
  { policies, apiKeys, secrets }: Settings,
): Promise<Server> {
  const state: ChannelState = { sendResult: 'accepted' };
  const { port, messages, close } = await startTestService(
    { pool, policies, state, apiKeys, secrets: secretsOf(secrets) });
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
  { policy, processes, apiKeys, secrets }: Settings,
): Promise<Server>[] {
  const options = { settings, secrets, policy, apiKeys };
  return Array.from({ length: processes }, async () => {
    const { stop, ...process } = await startServiceProcess(options);
    return { ...process, close: stop };
  });
}
