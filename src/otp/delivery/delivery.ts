/** The delivery of messages as the operations use it, and the wiring of its parts. */
import { addressOf, inOrder } from '../channels/channel.ts';
import type { Channel, ChannelName, Message, Templates } from '../channels/channel.ts';
import { randomOwner } from '../crypto/random.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import type { Rider } from '../../db/transaction.ts';
import { Dispatcher } from './dispatcher.ts';
import type { OnDeliveryEvent } from './events.ts';
import { DeliveryCounts } from './events.ts';
import { LateReports, reportPathOf } from './late-reports.ts';
import type { OutboxBatch } from './outbox-batch.ts';
import { Outbox } from './outbox.ts';
import type { Policies } from '../policy/policy.ts';
import { Reclaimer } from './reclaimer.ts';

type DeliveryDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  /** At least one, in the order in which they are tried. */
  channels: readonly Channel[];
  templates: Pick<Templates, 'localeFor'>;
  onEvent: OnDeliveryEvent;
  counts?: DeliveryCounts;
}>;

/** What decides which channel sends a message. */
type Routed = Pick<Message, 'userId' | 'to' | 'channel'>;

/**
 * A transactional outbox. A message is stored in the transaction that creates its OTP and is sent
 * after the commit, by this process or by the one that reclaims it.
 */
export type Delivery = Readonly<{
  /** The id of this process in the outbox. */
  owner: Hex;
  /** The first channel that can reach the recipient; the first of all when none can. */
  channelFor: (message: Routed) => ChannelName;
  /** The configured channels, in the order in which they are tried. */
  channelNames: readonly ChannelName[];
  /**
   * The formats that the channels need, when no channel can reach this address; otherwise null.
   * @param channel the only one to ask; without it, or with null, all
   */
  unreachable: (address: string, channel?: ChannelName | null) => string | null;
  localeFor: Templates['localeFor'];
  /** Takes batches whose COMMIT was answered. */
  dispatch: (batches: readonly OutboxBatch[]) => void;
  /**
   * Takes batches whose COMMIT was not answered. A message is sent as soon as the database says
   * that it is stored, and not at all if it is not.
   */
  dispatchIfStored: (batches: readonly OutboxBatch[]) => void;
  /** Takes a report of a provider; null when no channel asks for reports. */
  report: LateReports['take'] | null;
  /**
   * Erases finished outbox batches in the transaction of some requests, which saves a commit of
   * their own.
   */
  createEraser: (requests: number) => Rider;
  /** Messages that this process has and that no channel has accepted yet. */
  readonly pending: number;
  /** Starts reclaiming batches whose lease has expired. */
  start: () => void;
  /**
   * Waits for attempts in flight, at most `timeoutMs`, and releases the leases of the rest. Never
   * throws.
   */
  stop: (timeoutMs: number) => Promise<void>;
}>;

export function createDelivery(deps: DeliveryDeps): Delivery {
  const { pool, policies, secrets, channels, templates, onEvent } = deps;
  const { counts = new DeliveryCounts(channels) } = deps;
  const owner = randomOwner();
  const outbox = new Outbox({ pool, policies, secrets, owner });
  const dispatcher = new Dispatcher({
    channels, outbox, onEvent, counts,
    reportPathOf: (sealable) => reportPathOf(secrets.current, sealable),
  });
  const reports = new LateReports({
    pool, policies, secrets, owner, channels, onEvent, counts,
    dispatch: (batch) => dispatcher.dispatch(batch, false),
  });
  const asksForReports = channels.some(({ readReport }) => readReport !== undefined);
  const reclaimer = new Reclaimer({ outbox, dispatcher, secrets, onEvent, counts });
  return Object.freeze({
    owner,
    channelFor: (message: Routed) => {
      const ordered = inOrder(channels, message);
      const address = addressOf(message);
      return (ordered.find((channel) => channel.accepts(address)) ?? ordered[0]!).name;
    },
    channelNames: channels.map(({ name }) => name),
    unreachable: (address: string, only: ChannelName | null = null) => {
      const asked = only === null ? channels : channels.filter(({ name }) => name === only);
      return asked.some((channel) => channel.accepts(address)) ? null
        : asked.map(({ addressFormat }) => addressFormat).join(' or ');
    },
    localeFor: templates.localeFor,
    dispatch: (batches: readonly OutboxBatch[]) => {
      for (const batch of batches) dispatcher.dispatch(batch, false);
    },
    dispatchIfStored: (batches: readonly OutboxBatch[]) => {
      for (const batch of batches) dispatcher.dispatch(batch, true);
    },
    report: asksForReports ? reports.take.bind(reports) : null,
    createEraser: (requests: number) => dispatcher.createEraser(requests),
    get pending() { return counts.pending; },
    start: () => reclaimer.start(),
    stop: async (timeoutMs: number) => {
      await reclaimer.stop();
      await dispatcher.stop(timeoutMs);
    },
  });
}
