/** The numbered hits that one transaction has read and will write. */
import { groupBy } from './changed-rows.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { mapResult } from '../../db/query.ts';
import type { Query } from '../../db/query.ts';
import {
  createHitCounters, deleteHits, insertHitCounters, lockHitCounters, readHitCounters, readHits,
  storeHits,
} from '../../db/tables/limit-hits.ts';
import type {
  SubjectHit, HitCounter, LimitSubject, WantedHits,
} from '../../db/tables/limit-hits.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { AppliedLimit } from '../policy/policy.ts';
import type { MeasuredLimit } from '../rules/extra-limits.ts';
import { addHit, sortHits, EMPTY_HIT_WINDOW } from '../rules/numbered-hits.ts';
import type { HitWindow } from '../rules/numbered-hits.ts';

const NO_LIMITS: readonly MeasuredLimit[] = Object.freeze([]);

/** Expired hits deleted per added hit: more than one, so that their number falls. */
const EXPIRED_MAX = 2;

export class ExtraLimitRows {
  /** Shared by all batches to which no limit by hits applies. */
  static readonly none = new ExtraLimitRows([]);
  /** By subject, which has one quota for each purpose. */
  readonly #limits: Map<string, AppliedLimit[]>;
  readonly #storedKeys = new Set<string>();
  readonly #windows = new Map<string, HitWindow>();
  readonly #expired: SubjectHit[] = [];
  readonly #hitLimits = new Map<string, AppliedLimit>();
  /** The subjects that `lock` has locked. */
  readonly #locked = new Set<string>();

  /** @param limits those that apply to a batch, with repetitions */
  constructor(limits: readonly AppliedLimit[]) {
    this.#limits = groupBy(limits, keyOf);
  }

  /** Reads counters and then hits; requires at least one limit. */
  queries(lock: boolean): readonly Query<void>[] {
    return this.#read([...this.#limits.values()], lock);
  }

  /**
   * Reads without a lock which subjects have a counter: few clients have sent a wrong code. With
   * `readCounted` that is enough to refuse, and to let pass what takes no point.
   */
  peek(): readonly Query<void>[] {
    const subjects = [...this.#limits.values()]
      .filter((list) => list.some(({ quota }) => quota !== Infinity)).map(([first]) => first!);
    return subjects.length === 0 ? [] : [this.#takeCounters(readHitCounters(subjects))];
  }

  /** Reads the hits of the subjects that have a counter. */
  readCounted(): readonly Query<void>[] {
    const lists = [...this.#storedKeys].map((key) => this.#limits.get(key)!);
    return lists.length === 0 ? [] : [this.#takeHits(lists)];
  }

  /**
   * Locks some of the limits after `peek`, and reads all locked ones; drops the points added.
   *
   * @param createdAt the time of counters that are missing, where locks follow that come later in
   *   the lock order; null where none follows: `flush` inserts those that it needs
   */
  lock(limits: readonly AppliedLimit[], createdAt: Instant | null = null): readonly Query<void>[] {
    for (const limit of limits) this.#locked.add(keyOf(limit));
    if (this.#locked.size === 0) return [];
    this.#expired.length = 0;
    this.#hitLimits.clear();
    const keys = [...this.#locked];
    for (const key of keys) this.#windows.delete(key);
    const reads = this.#read(keys.map((key) => this.#limits.get(key)!), true);
    if (createdAt === null) return reads;
    const counters = keys.sort().map((key) => this.#limits.get(key)![0]!).map(({ subject, kind }) =>
      ({ subject, kind, newest: createdAt, usedAt: createdAt }));
    return [createHitCounters(counters), ...reads];
  }

  areLocked(limits: readonly AppliedLimit[]): boolean {
    return limits.every((limit) => this.#locked.has(keyOf(limit)));
  }

  #read(lists: readonly AppliedLimit[][], lock: boolean): readonly Query<void>[] {
    const subjects = lists.map(([first]) => first!);
    const counters = (lock ? lockHitCounters : readHitCounters)(subjects);
    return [this.#takeCounters(counters), this.#takeHits(lists)];
  }

  #takeHits(lists: readonly AppliedLimit[][]): Query<void> {
    const subjects = lists.map(([first]) => first!);
    const hitsMax = Math.max(...lists.map((list) => list.length));
    return mapResult(readHits(subjects, lists.flatMap(toWantedHits), hitsMax), (hits) => {
      for (const [key, found] of groupBy(hits, keyOf)) {
        this.#windows.set(key, { ...this.#windowFor(key), hits: sortHits(found) });
      }
    });
  }

  of(limits: readonly AppliedLimit[]): readonly MeasuredLimit[] {
    if (limits.length === 0) return NO_LIMITS;
    return limits.map((limit) => ({ limit, window: this.#windowFor(keyOf(limit)) }));
  }

  /** One limit for each subject with a hit that the clock has not reached: it was set back. */
  ahead(now: Instant): readonly AppliedLimit[] {
    return [...this.#windows].flatMap(([key, { newestAt }]) =>
      (newestAt > now ? this.#limits.get(key)!.slice(0, 1) : []));
  }

  add(limits: readonly AppliedLimit[], now: Instant): void {
    for (const limit of limits) {
      const key = keyOf(limit);
      const window = this.#windowFor(key);
      if (window.added === null) this.#collectExpired(limit, window, now);
      this.#hitLimits.set(key, limit);
      this.#windows.set(key, addHit(window, now));
    }
  }

  #collectExpired(
    { subject, kind, windowSeconds }: AppliedLimit,
    { hits }: HitWindow,
    now: Instant,
  ): void {
    const expired = hits.filter(({ usedAt }) => addSeconds(usedAt, windowSeconds) <= now);
    this.#expired.push(...expired.slice(0, EXPIRED_MAX).map((hit) => ({ ...hit, subject, kind })));
  }

  /**
   * Deletes expired hits of subjects that get a new hit. Must come before all other writes: the
   * statement may wait for a sweep step, and no other transaction must wait meanwhile.
   */
  eraseExpired(tx: Transaction): void {
    if (this.#expired.length > 0) tx.writes.push(deleteHits(this.#expired));
  }

  flush(tx: Transaction): void {
    if (this.#hitLimits.size === 0) return;
    const stored: HitCounter[] = [];
    const added: HitCounter[] = [];
    const hits: SubjectHit[] = [];
    for (const key of [...this.#hitLimits.keys()].sort()) {
      const { subject, kind } = this.#hitLimits.get(key)!;
      const { newest, newestAt, added: hit } = this.#windowFor(key);
      const counter = { subject, kind, newest: newest!, usedAt: newestAt };
      (this.#storedKeys.has(key) ? stored : added).push(counter);
      hits.push({ subject, kind, ...hit! });
    }
    if (added.length > 0) tx.writes.push(insertHitCounters(added));
    tx.writes.push(storeHits(stored, hits));
  }

  #windowFor(key: string): HitWindow {
    return this.#windows.get(key) ?? EMPTY_HIT_WINDOW;
  }

  #takeCounters(query: Query<HitCounter[]>): Query<void> {
    return mapResult(query, (counters) => {
      for (const counter of counters) {
        const { newest, usedAt: newestAt } = counter;
        const key = keyOf(counter);
        this.#storedKeys.add(key);
        this.#windows.set(key, { ...this.#windowFor(key), newest, newestAt });
      }
    });
  }
}

/** Sorts in the order of the primary key, in which the server locks. */
function keyOf({ subject, kind }: LimitSubject): string {
  return `${subject} ${kind}`;
}

/** One for each finite quota of a subject. */
function toWantedHits(limits: readonly AppliedLimit[]): WantedHits[] {
  const quotas = new Set(limits.map(({ quota }) => quota));
  quotas.delete(Infinity);
  const { subject, kind, windowSeconds } = limits[0]!;
  return [...quotas].map((quota) => ({ subject, kind, quota, windowSeconds }));
}
