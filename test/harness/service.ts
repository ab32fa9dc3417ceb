/** The real service on the database of a test, with a message sink in place of a channel. */
import { randomBytes } from 'node:crypto';
import type { ConnectionPool } from '../../src/db/pool.ts';
import { sweptTables } from '../../src/db/sweep/expired-rows.ts';
import { Sweeper } from '../../src/db/sweep/sweeper.ts';
import { parseApiKeys } from '../../src/http/input/api-keys.ts';
import { parseTrustedProxies } from '../../src/http/input/client-ip.ts';
import { createRoutes } from '../../src/http/routes.ts';
import { createHttpServer } from '../../src/http/server.ts';
import { keptCounts } from '../../src/otp/batch/otps.ts';
import type { Message, SendResult } from '../../src/otp/channels/channel.ts';
import { randomBelow } from '../../src/otp/crypto/random.ts';
import { parseSecrets } from '../../src/otp/crypto/secrets.ts';
import type { Secrets } from '../../src/otp/crypto/secrets.ts';
import { createPolicies } from '../../src/otp/policy/policy.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { RETENTION } from '../../src/otp/rules/lifecycle.ts';
import { createOtpService } from '../../src/otp/service.ts';
import { channelOf, createTestDelivery } from './delivery.ts';
import { DESCRIPTION } from './program.ts';
import { recordVisible } from './leak-recorder.ts';

export type TestService = Readonly<{
  port: number;
  /** Every message that was sent, in order. */
  messages: Message[];
  close: () => Promise<void>;
}>;

/** What the channel of a service returns for each message; it may change while the service runs. */
export type ChannelState = { sendResult: SendResult['kind'] };

export type TestServiceOptions = Readonly<{
  pool: ConnectionPool;
  policies?: Policies;
  secrets?: Secrets;
  /** As in API_KEYS. Without it the endpoints are public. */
  apiKeys?: string | undefined;
  /** By default every message is accepted. */
  state?: ChannelState;
  /** Called when a message is sent for the first time. */
  onMessage?: (message: Message) => void;
}>;

const CLOSE_TIMEOUT_MS = 2000;

/** New secrets, as in OTP_SECRETS. */
export function newSecretsText(): string {
  return `test:${randomBytes(32).toString('base64')}`;
}

/** Parses secrets that are known to be valid. */
export function secretsOf(text: string): Secrets {
  const parsed = parseSecrets(text);
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  return parsed.secrets;
}

function sendResultOf({ sendResult }: ChannelState): SendResult {
  const reason = `the channel said ${sendResult}`;
  if (sendResult === 'accepted') return { kind: sendResult };
  return sendResult === 'refused' ? { kind: sendResult, reason }
    : { kind: sendResult, reason, afterSeconds: null };
}

/** How many passes a sweeper has. */
export const SWEEP_PASSES
  = sweptTables(RETENTION, keptCounts(secretsOf(newSecretsText()), createPolicies())).length;

type SweeperOptions = Readonly<{
  secrets?: Secrets;
  policies?: Policies;
}>;

/** A sweeper with the retention of the service, and with its secrets if any row may be counted. */
export function newSweeper({
  secrets = secretsOf(newSecretsText()),
  policies = createPolicies(),
}: SweeperOptions = {}): Sweeper {
  const counts = keptCounts(secrets, policies);
  return new Sweeper({ retention: RETENTION, randomBelow, counts });
}

/** Starts the service on a free port of loopback, with loopback as a trusted proxy. */
export async function startTestService(options: TestServiceOptions): Promise<TestService> {
  const messages: Message[] = [];
  const policies = options.policies ?? createPolicies();
  const { pool, secrets = secretsOf(newSecretsText()) } = options;
  const { state = { sendResult: 'accepted' } } = options;
  const sent = new Set<string>();
  const channel = channelOf((message) => {
    if (!sent.has(message.otpId)) {
      sent.add(message.otpId);
      messages.push(message);
      options.onMessage?.(message);
    }
    return sendResultOf(state);
  });
  const delivery = createTestDelivery({ pool, policies, secrets, channels: [channel] });
  const sweeper = newSweeper({ secrets, policies });
  const service = createOtpService({ pool, policies, secrets, sweeper, delivery });
  delivery.start();
  const { proxies: trustedProxies } = parseTrustedProxies('127.0.0.0/8');
  const server = createHttpServer({
    routes: createRoutes(service, policies, DESCRIPTION),
    trustedProxies,
    browsers: { origins: new Set(), hosts: null },
    apiKeys: options.apiKeys === undefined ? null : parseApiKeys(options.apiKeys).apiKeys,
    onError: ({ requestId, route, error }) => {
      const text = error instanceof Error ? error.stack ?? error.message : String(error);
      recordVisible(`${requestId} ${route} ${text}`);
    },
  });
  const { port } = await server.listen(0, '127.0.0.1');
  const close = async (): Promise<void> => {
    await server.close(CLOSE_TIMEOUT_MS);
    await delivery.stop(CLOSE_TIMEOUT_MS);
  };
  return { port, messages, close };
}
