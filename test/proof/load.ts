/** Load for services in several processes on one database, and counts of their responses. */
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { startServiceProcess } from '../harness/processes.ts';
import type { ServiceProcess } from '../harness/processes.ts';
import { newSecretsText } from '../harness/service.ts';
import type { Message } from '../../src/otp/channels/channel.ts';
import { eventually } from '../harness/waiting.ts';

/** Another process sends the messages of a killed process after the lease of 20 s. */
const LEFT_MS = 90_000;

export type EndUser = Readonly<{
  user: string;
  address: string;
  purpose?: string;
  /** The Otp-Device field; without it the end user is an untrusted client. */
  device?: string;
}>;

/** Services on one database. */
export type Fleet = Readonly<{
  database: TestDatabase;
  services: readonly ServiceProcess[];
  /** Requests a code; requests go to the services in turn. */
  request: (endUser: EndUser, key?: string) => Promise<Reply>;
  /** @param otpId binds the attempt to an OTP */
  verify: (endUser: EndUser, code: string, key?: string, otpId?: string) => Promise<Reply>;
  /** Waits for the message of a code. */
  messageOf: (otpId: unknown) => Promise<Message>;
  messagesTo: (user: string) => Message[];
  stop: () => Promise<void>;
}>;

let lastKey = 0;

/** A key or user that no other test uses. */
export function fresh(kind: string): string {
  lastKey += 1;
  return `${kind}${lastKey}.${process.pid}`;
}

/** An IPv4 address that no other test uses. */
export function freshAddress(): string {
  lastKey += 1;
  return `10.${(lastKey >> 16) & 255}.${(lastKey >> 8) & 255}.${lastKey & 255}`;
}

export function newEndUser(): EndUser {
  return { user: fresh('u'), address: freshAddress() };
}

/**
 * Starts services, each in its own process, on a new database. A 503 of a busy machine is repeated.
 */
export async function startFleet(
  size = 2,
  connectionsMax = 32,
  apiKeys?: string,
  policy = '{}',
  secrets = newSecretsText(),
): Promise<Fleet> {
  const database = await createTestDatabase();
  const { settings } = database;
  const services = await Promise.all(Array.from({ length: size }, () =>
    startServiceProcess({ settings, secrets, connectionsMax, apiKeys, policy })));
  const fleet = createFleet(database, services);
  return {
    ...fleet,
    request: (endUser, key = fresh('k')) => decided(() => fleet.request(endUser, key)),
    verify: (endUser, code, key, otpId) =>
      decided(() => fleet.verify(endUser, code, key, otpId)),
  };
}

/** Makes a fleet of running services; a 503 is not repeated. */
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
    request: ({ user, address, purpose = 'login', device }, key = fresh('k')) => post({
      port: next(), path: '/otp/request', body: { user_id: user, purpose }, address, key,
      headers: headersOf(device),
    }),
    verify: ({ user, address, purpose = 'login', device }, code, key, otpId) => post({
      port: next(), path: '/otp/verify', address, key, headers: headersOf(device),
      body: { user_id: user, purpose, code, ...(otpId === undefined ? {} : { otp_id: otpId }) },
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

function headersOf(device: string | undefined): Record<string, string> {
  return device === undefined ? {} : { 'Otp-Device': device };
}

/**
 * Repeats a request until its response is not 503. A 503 is no decision: clients repeat the request
 * with its key (docs/api.md, "Errors").
 */
export async function decided(send: () => Promise<Reply>): Promise<Reply> {
  let reply = await send();
  await eventually('the service decides', async () => {
    if (reply.status === 503) reply = await send();
    return reply.status !== 503;
  });
  return reply;
}

/** Counts responses by kind, such as `{'201': 3, '429 rate_limit_exceeded': 57}`. */
export function countByKind(replies: readonly Reply[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, body } of replies) {
    const kind = body.error === undefined ? String(status) : `${status} ${String(body.error)}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Six digits that differ from the code, another one for each index below 999,999. */
export function wrongCode(code: string, index = 0): string {
  return String((Number(code) + 1 + index) % 1_000_000).padStart(6, '0');
}

/** Starts `count` promises at once. */
export function atOnce<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => work(index)));
}
