/** The real delivery on the database of a test, with channels in this process. */
import type { ConnectionPool } from '../../src/db/pool.ts';
import type { Channel, Message, SendResult } from '../../src/otp/channels/channel.ts';
import type { Secrets } from '../../src/otp/crypto/secrets.ts';
import { createDelivery } from '../../src/otp/delivery/delivery.ts';
import type { Delivery } from '../../src/otp/delivery/delivery.ts';
import type { OnDeliveryEvent } from '../../src/otp/delivery/events.ts';
import type { DeliveryCounts } from '../../src/otp/delivery/events.ts';
import type { Policies } from '../../src/otp/policy/policy.ts';
import { recordCode } from './leak-recorder.ts';

/** A channel that calls `send`. */
export function channelOf(
  send: (message: Message) => SendResult | Promise<SendResult>,
  overrides: Partial<Channel> = {},
): Channel {
  return {
    name: 'console',
    addressFormat: null,
    accepts: () => true,
    send: async (message) => {
      recordCode(message.code);
      return send(message);
    },
    close: () => {},
    ...overrides,
  };
}

export type TestDeliveryDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  channels: readonly Channel[];
  onEvent?: OnDeliveryEvent;
  counts?: DeliveryCounts;
}>;

/** Creates a delivery with one locale. `start` starts the reclaimer. */
export function createTestDelivery(deps: TestDeliveryDeps): Delivery {
  return createDelivery({ templates: { localeFor: () => '' }, onEvent: () => {}, ...deps });
}
