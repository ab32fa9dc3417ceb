/**
 * What is counted beyond the contract's limits, as a list of requests shares it inside one
 * transaction.
 */
import { groupBy } from './changed-rows.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { mapResult } from '../../db/query.ts';
import type { Query } from '../../db/query.ts';
import {
  deleteHits, insertHitCounters, lockHitCounters, readHitCounters, readHits, storeHits,
} from '../../db/tables/limit-hits.ts';
import type {
  SubjectHit, HitCounter, LimitSubject, WantedHits,
} from '../../db/tables/limit-hits.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { AppliedLimit, MeasuredLimit } from '../rules/extra-limits.ts';
import { addHit, inOrder, EMPTY_HIT_WINDOW } from '../rules/numbered-hits.ts';
import type { HitWindow } from '../rules/numbered-hits.ts';

const NO_TALLIES: readonly MeasuredLimit[] = Object.freeze([]);
const NO_QUERIES: readonly Query<void>[] = Object.freeze([]);

/** More than one is added, so that there are ever fewer dead ones. */
const ERASED_MAX = 2;

/** Uses by subject: those that were loaded, as decisions have added to them. */
export class ExtraLimitRows {
  static readonly #ofNothing = new ExtraLimitRows([]);
  /** By subject, each with all its quotas. */
  readonly #counted: Map<string, AppliedLimit[]>;
  readonly #heads = new Set<string>();
  readonly #tallies = new Map<string, HitWindow>();
  readonly #erasable: SubjectHit[] = [];
  readonly #used = new Map<string, AppliedLimit>();

  /** @param counted what the list counts, member by member */
  private constructor(counted: readonly AppliedLimit[]) {
    this.#counted = groupBy(counted, keyOf);
  }

  /**
   * Makes one for a list; where nothing is counted it is always the same, and costs nothing.
   *
   * @param members what is counted for each
   */
  static for(
    members: readonly Readonly<{ appliedLimits: readonly AppliedLimit[] }>[],
  ): ExtraLimitRows {
    if (members.every(({ appliedLimits }) => appliedLimits.length === 0)) {
      return ExtraLimitRows.#ofNothing;
    }
    return new ExtraLimitRows(members.flatMap(({ appliedLimits }) => appliedLimits));
  }

  /** Reads counters, locking them or not, and then hits; none where no limit applies. */
  queries(lock: boolean): readonly Query<void>[] {
    if (this.#counted.size === 0) return NO_QUERIES;
    const read = lock ? lockHitCounters : readHitCounters;
    return [this.#takeHeads(read(this.#subjects)), this.#readHits()];
  }

  #readHits(): Query<void> {
    const lists = [...this.#counted.values()];
    const usesMax = Math.max(...lists.map((list) => list.length));
    const query = readHits(this.#subjects, lists.flatMap(wantedOf), usesMax);
    return mapResult(query, (uses) => {
      for (const [key, found] of groupBy(uses, keyOf)) {
        this.#tallies.set(key, { ...this.#tallyOf(key), uses: inOrder(found) });
      }
    });
  }

  /** All that is known of subjects. */
  of(counted: readonly AppliedLimit[]): readonly MeasuredLimit[] {
    if (counted.length === 0) return NO_TALLIES;
    return counted.map((one) => ({ limit: one, window: this.#tallyOf(keyOf(one)) }));
  }

  /** Counts one more use of each. */
  add(counted: readonly AppliedLimit[], now: Instant): void {
    for (const one of counted) {
      const key = keyOf(one);
      const tally = this.#tallyOf(key);
      if (tally.added === null) this.#noteDead(one, tally, now);
      this.#used.set(key, one);
      this.#tallies.set(key, addHit(tally, now));
    }
  }

  #noteDead(
    { subject, kind, windowSeconds }: AppliedLimit,
    { uses }: HitWindow,
    now: Instant,
  ): void {
    const dead = uses.filter(({ usedAt }) => addSeconds(usedAt, windowSeconds) <= now);
    this.#erasable.push(...dead.slice(0, ERASED_MAX).map((use) => ({ ...use, subject, kind })));
  }

  /** Leaves the erasure of dead rows to the transaction. To be called before all other writes. */
  eraseExpired(tx: Transaction): void {
    if (this.#erasable.length > 0) tx.writes.push(deleteHits(this.#erasable));
  }

  /** Leaves the writes of what was counted to the transaction. */
  flush(tx: Transaction): void {
    if (this.#used.size === 0) return;
    const known: HitCounter[] = [];
    const fresh: HitCounter[] = [];
    const uses: SubjectHit[] = [];
    for (const key of [...this.#used.keys()].sort()) {
      const { subject, kind } = this.#used.get(key)!;
      const { newest, newestAt, added } = this.#tallyOf(key);
      const head = { subject, kind, newest: newest!, usedAt: newestAt };
      (this.#heads.has(key) ? known : fresh).push(head);
      uses.push({ subject, kind, ...added! });
    }
    if (fresh.length > 0) tx.writes.push(insertHitCounters(fresh));
    tx.writes.push(storeHits(known, uses));
  }

  get #subjects(): LimitSubject[] {
    return [...this.#counted.values()].map(([first]) => first!);
  }

  #tallyOf(key: string): HitWindow {
    return this.#tallies.get(key) ?? EMPTY_HIT_WINDOW;
  }

  #takeHeads(query: Query<HitCounter[]>): Query<void> {
    return mapResult(query, (heads) => {
      for (const head of heads) {
        const { newest, usedAt: newestAt } = head;
        this.#heads.add(keyOf(head));
        this.#tallies.set(keyOf(head), { ...EMPTY_HIT_WINDOW, newest, newestAt });
      }
    });
  }
}

function keyOf({ subject, kind }: LimitSubject): string {
  return `${kind} ${subject}`;
}

/** Once for each quota of a subject; what has none need not be read. */
function wantedOf(counted: readonly AppliedLimit[]): WantedHits[] {
  const quotas = new Set(counted.map(({ quota }) => quota));
  quotas.delete(Infinity);
  const { subject, kind } = counted[0]!;
  return [...quotas].map((quota) => ({ subject, kind, quota }));
}
