/** Load for services in two processes on one database, and what their answers add up to. */
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { startServiceProcess } from '../harness/processes.ts';
import type { ServiceProcess } from '../harness/processes.ts';
import { newSecretsText } from '../harness/service.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import { eventually } from '../harness/waiting.ts';

/** What a killed process has left is sent by another one once its lease of 20 s is over. */
const LEFT_MS = 90_000;

/** Who asks, from where, and what for. */
export type EndUser = Readonly<{ user: string; address: string; purpose?: string }>;

/** Services that answer as one. */
export type Fleet = Readonly<{
  database: TestDatabase;
  services: readonly ServiceProcess[];
  /** Asks for a code; requests go to the services in turn. */
  request: (endUser: EndUser, key?: string) => Promise<Reply>;
  verify: (endUser: EndUser, code: string, key?: string) => Promise<Reply>;
  /** The message of a code that was issued, once it has come. */
  messageOf: (otpId: unknown) => Promise<Message>;
  messagesTo: (user: string) => Message[];
  stop: () => Promise<void>;
}>;

let lastKey = 0;

/** A key, a user or an address that nobody has used. */
export function fresh(kind: string): string {
  lastKey += 1;
  return `${kind}${lastKey}.${process.pid}`;
}

/** An IPv4 address that nobody has used. */
export function freshAddress(): string {
  lastKey += 1;
  return `10.${(lastKey >> 16) & 255}.${(lastKey >> 8) & 255}.${lastKey & 255}`;
}

/** Someone new from somewhere new. */
export function newEndUser(): EndUser {
  return { user: fresh('u'), address: freshAddress() };
}

/**
 * Starts services, each in a process of its own, on a fresh database. Their answers are decisions:
 * a 503 of a busy machine is repeated.
 */
export async function startFleet(
  size = 2,
  connectionsMax = 32,
  apiKeys?: string,
  policy = '{}',
): Promise<Fleet> {
  const database = await createTestDatabase();
  const { settings } = database;
  const secrets = newSecretsText();
  const services = await Promise.all(Array.from({ length: size }, () =>
    startServiceProcess({ settings, secrets, connectionsMax, apiKeys, policy })));
  const fleet = createFleet(database, services);
  return {
    ...fleet,
    request: (endUser, key = fresh('k')) => decided(() => fleet.request(endUser, key)),
    verify: (endUser, code, key) => decided(() => fleet.verify(endUser, code, key)),
  };
}

/** Makes a fleet of services that run, with their answers as they are. */
export function createFleet(database: TestDatabase, services: ServiceProcess[]): Fleet {
  let turn = 0;
  const next = (): number => {
    turn += 1;
    return services[turn % services.length]!.port;
  };
  const allMessages = (): Message[] => services.flatMap(({ messages }) => messages);
  return {
    database,
    services,
    request: ({ user, address, purpose = 'login' }, key = fresh('k')) => post({
      port: next(), path: '/otp/request', body: { user_id: user, purpose }, address, key,
    }),
    verify: ({ user, address, purpose = 'login' }, code, key) => post({
      port: next(), path: '/otp/verify', body: { user_id: user, purpose, code }, address, key,
    }),
    messagesTo: (user) => allMessages().filter(({ userId }) => userId === user),
    messageOf: async (otpId) => {
      const find = () => services.map(({ messages }) =>
        messages.findLast((message) => message.otpId === otpId)).find((found) => found);
      await eventually(`the message of ${String(otpId)}`, () => find() !== undefined, LEFT_MS);
      return find()!;
    },
    stop: async () => {
      await Promise.all(services.map((service) => service.stop()));
      database.close();
    },
  };
}

/**
 * Sends a request until the service has decided on it. A 503 says that it has not, and that the
 * client is to repeat the request with its key (README, Idempotency-Key).
 */
export async function decided(send: () => Promise<Reply>): Promise<Reply> {
  let reply = await send();
  await eventually('the service decides', async () => {
    if (reply.status === 503) reply = await send();
    return reply.status !== 503;
  });
  return reply;
}

/** How many answers there are of each kind, such as `{'201': 3, '429 rate_limit_exceeded': 57}`. */
export function countByKind(replies: readonly Reply[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, body } of replies) {
    const kind = body.error === undefined ? String(status) : `${status} ${String(body.error)}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Six digits that differ from a code, one for each index below 999,999. */
export function wrongCode(code: string, index = 0): string {
  return String((Number(code) + 1 + index) % 1_000_000).padStart(6, '0');
}

/** So many promises at once. */
export function atOnce<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => work(index)));
}
