/** What is done to the group, and the goals of each. Every event ends its own cause. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Group } from './group.ts';
import type { Network } from './network.ts';
import type { Node } from './node.ts';
import type { EventName } from './options.ts';

export type Stage = Readonly<{
  group: Group;
  network: Network;
  primary: Node;
  secondaries: readonly Node[];
  signal: AbortSignal;
}>;

export type FailoverEvent = Readonly<{
  title: string;
  run: (stage: Stage) => Promise<void>;
  /** How long nobody can take writes because the event says so; the gap may be that much longer. */
  lastsMs: number;
  /** The longest time without a good answer, beyond `lastsMs`. */
  gapMaxMs: number;
  /** How many requests may fail; null for any number. */
  failedMax: number | null;
  /** What /readyz must name meanwhile; null when nothing lasts long enough to be named. */
  names: string | null;
}>;

/** Past the 6 to 7 s after which the group has a new primary. */
const STOP_MS = 14_000;
const PARTITION_MS = 16_000;
const QUORUM_MS = 15_000;
const READ_ONLY_MS = 6000;
const REJOIN_AFTER_MS = 12_000;
const BACK_AFTER_MS = 8000;

/** A new primary takes 6 to 7 s with an expel timeout of 0. */
const FAILOVER_GAP_MS = 8000;

const wait = (ms: number, signal: AbortSignal): Promise<void> => delay(ms, undefined, { signal });

const SUDDEN = { lastsMs: 0, gapMaxMs: FAILOVER_GAP_MS, failedMax: null, names: null } as const;

export const EVENTS: Readonly<Record<EventName, FailoverEvent>> = {
  kill: {
    ...SUDDEN,
    title: 'primary killed (kill -9), back after 12 s',
    run: async ({ group, primary, signal }) => {
      await primary.kill();
      await wait(REJOIN_AFTER_MS, signal);
      await group.rejoin();
    },
  },
  stop: {
    ...SUDDEN,
    title: 'primary stopped (SIGSTOP) for 14 s',
    run: async ({ group, primary, signal }) => {
      primary.signal('SIGSTOP');
      await wait(STOP_MS, signal);
      primary.signal('SIGCONT');
      await group.rejoin();
    },
  },
  move: {
    title: 'planned move, back after 8 s', lastsMs: 0, gapMaxMs: 1000, failedMax: 0, names: null,
    run: async ({ group, primary, secondaries, signal }) => {
      await group.moveTo(secondaries[0]!);
      await wait(BACK_AFTER_MS, signal);
      await group.moveTo(primary);
    },
  },
  'read-only': {
    title: 'super_read_only by hand for 6 s',
    lastsMs: READ_ONLY_MS, gapMaxMs: 2000, failedMax: null, names: 'read_only',
    run: async ({ primary, signal }) => {
      await primary.query('SET GLOBAL super_read_only = ON');
      await wait(READ_ONLY_MS, signal);
      await primary.query('SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF');
    },
  },
  partition: {
    ...SUDDEN,
    title: 'primary cut off from the others for 16 s',
    run: async ({ group, network, primary, signal }) => {
      await network.cut?.(primary.options.index);
      await wait(PARTITION_MS, signal);
      await network.heal();
      await group.rejoin();
    },
  },
  quorum: {
    title: 'both secondaries stopped (SIGSTOP) for 15 s',
    lastsMs: QUORUM_MS, gapMaxMs: 2000, failedMax: null, names: 'quorum',
    run: async ({ group, secondaries, signal }) => {
      for (const node of secondaries) node.signal('SIGSTOP');
      await wait(QUORUM_MS, signal);
      for (const node of secondaries) node.signal('SIGCONT');
      await group.rejoin();
    },
  },
};
