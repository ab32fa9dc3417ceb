/** The delivery of messages as the operations see it, and its wiring. */
import type { Channel, ChannelName, Words } from '../channels/channel.ts';
import { drawOwner } from '../crypto/random.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { SessionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import { Courier } from './dispatcher.ts';
import type { NoteDelivery } from './events.ts';
import { DeliveryCounts } from './metrics.ts';
import type { Bundle } from './outbox-batch.ts';
import type { Erasure } from './outbox-writer.ts';
import { Outbox } from './outbox.ts';
import type { Policies } from '../policy/policy.ts';
import { LookOut } from './reclaimer.ts';

/** What delivery needs. */
type DeliveryParts = Readonly<{
  pool: SessionPool;
  policies: Policies;
  secrets: Secrets;
  /** In the order in which they are tried; at least one. */
  channels: readonly Channel[];
  words: Pick<Words, 'localeFor'>;
  note: NoteDelivery;
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
  localeFor: Words['localeFor'];
  /** Takes messages whose COMMIT was answered. */
  dispatch: (bundles: readonly Bundle[]) => void;
  /**
   * What a transaction that is about to commit shall erase from the outbox on the way: each such
   * statement saves a commit. Null: nothing that would be worth it.
   */
  takeErasure: (requests: number) => Erasure | null;
  /** How many messages this process has on their way. */
  readonly held: number;
  /** Begins to look for messages that other processes have left. */
  start: () => void;
  /** Ends what is under way, within a bound, and leaves the rest to others. Never throws. */
  stop: (timeoutMs: number) => Promise<void>;
}>;

/** Makes a delivery for one process. */
export function createDelivery(parts: DeliveryParts): Delivery {
  const { pool, policies, secrets, channels, words, note } = parts;
  const { counts = new DeliveryCounts(channels) } = parts;
  const owner = drawOwner();
  const outbox = new Outbox({ pool, policies, secrets, owner });
  const courier = new Courier(channels, outbox, note, counts);
  counts.held = () => courier.held;
  const lookOut = new LookOut({ outbox, courier, secrets, note, counts });
  const first = channels[0]!;
  const reaching = (userId: string) => channels.find((channel) => channel.reaches(userId));
  return Object.freeze({
    owner,
    channelFor: (userId: string) => (reaching(userId) ?? first).name,
    unreachable: (userId: string) =>
      (reaching(userId) !== undefined ? null : channels.map(({ wants }) => wants).join(' or ')),
    localeFor: words.localeFor,
    dispatch: (bundles: readonly Bundle[]) => {
      for (const bundle of bundles) courier.dispatch(bundle, false);
    },
    takeErasure: (requests: number) => courier.erasures.takeErasure(requests),
    get held() { return courier.held; },
    start: () => lookOut.start(),
    stop: async (timeoutMs: number) => {
      await lookOut.stop();
      await courier.stop(timeoutMs);
    },
  });
}
