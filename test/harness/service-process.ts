/**
 * A service in its own process, for races and crashes. It is started by fork, takes its settings
 * from the first message, moves its clock on `{clock}`, changes its channel on `{sendResult}`, and
 * reports each message sent.
 */
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { openTestDatabase } from './database.ts';
import { secretsOf, startTestService } from './service.ts';
import type { ChannelState } from './service.ts';

/** The first message of the parent. */
export type Settings = Readonly<{
  settings: DatabaseSettings;
  secrets: string;
  policy: string;
  connectionsMax: number;
  apiKeys?: string | undefined;
}>;

/** Later messages of the parent. */
export type Order = Readonly<{
  clock?: string | null;
  sendResult?: ChannelState['sendResult'];
  stop?: true;
}>;

async function start(received: Settings): Promise<void> {
  const { settings, secrets, policy, connectionsMax, apiKeys } = received;
  const { pool, clock } = openTestDatabase(settings, connectionsMax);
  const parsed = parsePolicies(policy);
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  const state: ChannelState = { sendResult: 'accepted' };
  const service = await startTestService({
    pool,
    state,
    apiKeys,
    policies: parsed.policies,
    secrets: secretsOf(secrets),
    onMessage: (message) => process.send?.({ kind: 'message', message }),
  });
  process.on('message', async (order: Order) => {
    if (order.clock !== undefined) {
      clock.set(order.clock);
      process.send?.({ kind: 'clock' });
    }
    if (order.sendResult !== undefined) {
      state.sendResult = order.sendResult;
      process.send?.({ kind: 'sendResult' });
    }
    if (order.stop) {
      await service.close();
      const { busyCount } = pool;
      pool.close();
      process.exit(busyCount === 0 ? 0 : 1);
    }
  });
  process.send?.({ kind: 'ready', port: service.port });
}

// The service does not outlive its parent.
process.once('disconnect', () => process.exit(1));
process.once('message', (settings: Settings) => void start(settings));
