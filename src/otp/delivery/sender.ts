/** The channels of a process, each behind a breaker, and which of them a message is sent by. */
import { elapsedMs } from '../../db/running-clock.ts';
import type { Channel, Verdict } from '../channel.ts';
import { Breaker } from './breaker.ts';
import type { DeliveryCounts } from './delivery-metrics.ts';
import type { NoteDelivery } from './note.ts';
import type { Parcel } from './parcel.ts';

/** Sends by one channel or another. */
export class Sender {
  readonly #channels: readonly Channel[];
  readonly #note: NoteDelivery;
  readonly #breakers: ReadonlyMap<Channel, Breaker>;
  readonly #counts: DeliveryCounts;

  /** @param channels in the order in which they are tried */
  constructor(channels: readonly Channel[], note: NoteDelivery, counts: DeliveryCounts) {
    this.#channels = channels;
    this.#note = note;
    this.#counts = counts;
    this.#breakers = new Map(channels.map((channel) => [channel, new Breaker()]));
  }

  /** Whether any channel may still take a message: it can reach the user and has not refused. */
  hasChannelFor(parcel: Parcel): boolean {
    return parcel.channelsLeft(this.#channels).length > 0;
  }

  /** The channel to send by now; null when all of them are to be left alone for a while. */
  pick(parcel: Parcel): Channel | null {
    const now = elapsedMs();
    return parcel.channelsReady(parcel.channelsLeft(this.#channels))
      .find((channel) => this.#breakers.get(channel)!.mayBegin(now)) ?? null;
  }

  /** Milliseconds after which there may be a channel to send by, when there is none now. */
  readyInMs(parcel: Parcel): number {
    const now = elapsedMs();
    return Math.min(...parcel.channelsLeft(this.#channels).map((channel) =>
      Math.max(this.#breakers.get(channel)!.readyInMs(now), parcel.readyInMs(channel))));
  }

  /** Makes one attempt, and tells the parcel and the breaker how it ended. Never throws. */
  async send(parcel: Parcel, channel: Channel): Promise<Verdict['kind']> {
    const breaker = this.#breakers.get(channel)!;
    const attempt = breaker.begin();
    const verdict = await channel.send(parcel.message, parcel.now());
    const change = breaker.end(attempt, verdict.kind === 'retry', elapsedMs());
    const { name } = channel;
    const counts = this.#counts.channels.get(name)!;
    counts[verdict.kind] += 1;
    if (change !== null) counts.isPaused = change === 'paused';
    const reason = 'reason' in verdict ? verdict.reason : verdict.kind;
    if (change !== null) this.#note({ event: `channel_${change}`, channel: name, reason });
    if (verdict.kind === 'accepted') return verdict.kind;
    if (verdict.kind === 'retry') parcel.noteFailure(channel, verdict.afterSeconds);
    else parcel.noteRefusal(channel);
    const event = `delivery_${verdict.kind}` as const;
    const { otpId, userId } = parcel.message;
    this.#note({ event, otpId, userId, channel: name, reason });
    return verdict.kind;
  }

  /** Closes the connections of all channels. */
  close(): void {
    for (const channel of this.#channels) channel.close();
  }
}
