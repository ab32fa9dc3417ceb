/** The delivery of messages as the operations see it, and its wiring. */
import type { Channel, ChannelName, Templates } from '../channels/channel.ts';
import { randomOwner } from '../crypto/random.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import { Dispatcher } from './dispatcher.ts';
import type { OnDeliveryEvent } from './events.ts';
import { DeliveryCounts } from './metrics.ts';
import type { OutboxBatch } from './outbox-batch.ts';
import type { Erasure } from './outbox-writer.ts';
import { Outbox } from './outbox.ts';
import type { Policies } from '../policy/policy.ts';
import { Reclaimer } from './reclaimer.ts';

/** What delivery needs. */
type DeliveryDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  /** In the order in which they are tried; at least one. */
  channels: readonly Channel[];
  templates: Pick<Templates, 'localeFor'>;
  onEvent: OnDeliveryEvent;
  counts?: DeliveryCounts;
}>;

/** Sends what was committed, and what other processes have left. */
export type Delivery = Readonly<{
  /** Names this process in the outbox. */
  owner: Hex;
  /** By which channel a message to a user shall go: the first that can reach the user. */
  channelFor: (userId: string) => ChannelName;
  /** What a user_id must be, when no channel can reach this one; else null. */
  unreachable: (userId: string) => string | null;
  localeFor: Templates['localeFor'];
  /** Takes messages whose COMMIT was answered. */
  dispatch: (batches: readonly OutboxBatch[]) => void;
  /**
   * What a transaction that is about to commit shall erase from the outbox on the way: each such
   * statement saves a commit. Null: nothing that would be worth it.
   */
  takeErasure: (requests: number) => Erasure | null;
  /** How many messages this process has on their way. */
  readonly pending: number;
  /** Begins to look for messages that other processes have left. */
  start: () => void;
  /** Ends what is under way, within a bound, and leaves the rest to others. Never throws. */
  stop: (timeoutMs: number) => Promise<void>;
}>;

/** Makes a delivery for one process. */
export function createDelivery(deps: DeliveryDeps): Delivery {
  const { pool, policies, secrets, channels, templates, onEvent } = deps;
  const { counts = new DeliveryCounts(channels) } = deps;
  const owner = randomOwner();
  const outbox = new Outbox({ pool, policies, secrets, owner });
  const dispatcher = new Dispatcher({ channels, outbox, onEvent, counts });
  const reclaimer = new Reclaimer({ outbox, dispatcher, secrets, onEvent, counts });
  const findChannel = (userId: string) => channels.find((channel) => channel.accepts(userId));
  return Object.freeze({
    owner,
    channelFor: (userId: string) => (findChannel(userId) ?? channels[0]!).name,
    unreachable: (userId: string) => (findChannel(userId) !== undefined ? null
      : channels.map(({ addressFormat }) => addressFormat).join(' or ')),
    localeFor: templates.localeFor,
    dispatch: (batches: readonly OutboxBatch[]) => {
      for (const batch of batches) dispatcher.dispatch(batch, false);
    },
    takeErasure: (requests: number) => dispatcher.takeErasure(requests),
    get pending() { return counts.pending; },
    start: () => reclaimer.start(),
    stop: async (timeoutMs: number) => {
      await reclaimer.stop();
      await dispatcher.stop(timeoutMs);
    },
  });
}
