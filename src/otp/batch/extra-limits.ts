/**
 * What is counted beyond the contract's limits, as a list of requests shares it inside one
 * transaction.
 */
import { groupBy } from './changed-rows.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { mapAnswer } from '../../db/query.ts';
import type { Query } from '../../db/query.ts';
import {
  eraseUses, insertHeads, lockHeads, readHeads, readUses, storeUses,
} from '../../db/tables/limit-hits.ts';
import type { SubjectUse, UseHead, UseSubject, WantedUses } from '../../db/tables/limit-hits.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { Counted, CountedTally } from '../rules/extra-limits.ts';
import { addUse, inOrder, NO_TALLY } from '../rules/numbered-hits.ts';
import type { Tally } from '../rules/numbered-hits.ts';

const NO_TALLIES: readonly CountedTally[] = Object.freeze([]);

/** More than one is added, so that there are ever fewer dead ones. */
const ERASED_MAX = 2;

/** Uses by subject: those that were loaded, as decisions have added to them. */
export class TallyBook {
  static readonly #ofNothing = new TallyBook([]);
  /** By subject, each with all its quotas. */
  readonly #counted: Map<string, Counted[]>;
  readonly #heads = new Set<string>();
  readonly #tallies = new Map<string, Tally>();
  readonly #erasable: SubjectUse[] = [];
  readonly #used = new Map<string, Counted>();

  /** @param counted what the list counts, member by member */
  private constructor(counted: readonly Counted[]) {
    this.#counted = groupBy(counted, keyOf);
  }

  /**
   * Makes one for a list; where nothing is counted it is always the same, and costs nothing.
   *
   * @param members what is counted for each
   */
  static for(members: readonly Readonly<{ counted: readonly Counted[] }>[]): TallyBook {
    if (members.every(({ counted }) => counted.length === 0)) return TallyBook.#ofNothing;
    return new TallyBook(members.flatMap(({ counted }) => counted));
  }

  /** True when nothing is counted: then nothing needs to be asked. */
  get isEmpty(): boolean {
    return this.#counted.size === 0;
  }

  /** Locks all subjects. To be asked before `uses`. */
  get lock(): Query<void> {
    return this.#takeHeads(lockHeads(this.#subjects));
  }

  /** The same without a lock. */
  get glance(): Query<void> {
    return this.#takeHeads(readHeads(this.#subjects));
  }

  /** Reads what answers may rest on. */
  get uses(): Query<void> {
    const lists = [...this.#counted.values()];
    const usesMax = Math.max(...lists.map((list) => list.length));
    const query = readUses(this.#subjects, lists.flatMap(wantedOf), usesMax);
    return mapAnswer(query, (uses) => {
      for (const [key, found] of groupBy(uses, keyOf)) {
        this.#tallies.set(key, { ...this.#tallyOf(key), uses: inOrder(found) });
      }
    });
  }

  /** All that is known of subjects. */
  of(counted: readonly Counted[]): readonly CountedTally[] {
    if (counted.length === 0) return NO_TALLIES;
    return counted.map((one) => ({ counted: one, tally: this.#tallyOf(keyOf(one)) }));
  }

  /** Counts one more use of each. */
  add(counted: readonly Counted[], now: Instant): void {
    for (const one of counted) {
      const key = keyOf(one);
      const tally = this.#tallyOf(key);
      if (tally.added === null) this.#noteDead(one, tally, now);
      this.#used.set(key, one);
      this.#tallies.set(key, addUse(tally, now));
    }
  }

  #noteDead({ subject, kind, windowSeconds }: Counted, { uses }: Tally, now: Instant): void {
    const dead = uses.filter(({ usedAt }) => addSeconds(usedAt, windowSeconds) <= now);
    this.#erasable.push(...dead.slice(0, ERASED_MAX).map((use) => ({ ...use, subject, kind })));
  }

  /** Leaves the erasure of dead rows to the transaction. To be called before all other writes. */
  erase(tx: Transaction): void {
    if (this.#erasable.length > 0) tx.writes.push(eraseUses(this.#erasable));
  }

  /** Leaves the writes of what was counted to the transaction. */
  store(tx: Transaction): void {
    if (this.#used.size === 0) return;
    const known: UseHead[] = [];
    const fresh: UseHead[] = [];
    const uses: SubjectUse[] = [];
    for (const key of [...this.#used.keys()].sort()) {
      const { subject, kind } = this.#used.get(key)!;
      const { newest, newestAt, added } = this.#tallyOf(key);
      const head = { subject, kind, newest: newest!, usedAt: newestAt };
      (this.#heads.has(key) ? known : fresh).push(head);
      uses.push({ subject, kind, ...added! });
    }
    if (fresh.length > 0) tx.writes.push(insertHeads(fresh));
    tx.writes.push(storeUses(known, uses));
  }

  get #subjects(): UseSubject[] {
    return [...this.#counted.values()].map(([first]) => first!);
  }

  #tallyOf(key: string): Tally {
    return this.#tallies.get(key) ?? NO_TALLY;
  }

  #takeHeads(query: Query<UseHead[]>): Query<void> {
    return mapAnswer(query, (heads) => {
      for (const head of heads) {
        const { newest, usedAt: newestAt } = head;
        this.#heads.add(keyOf(head));
        this.#tallies.set(keyOf(head), { ...NO_TALLY, newest, newestAt });
      }
    });
  }
}

function keyOf({ subject, kind }: UseSubject): string {
  return `${kind} ${subject}`;
}

/** Once for each quota of a subject; what has none need not be read. */
function wantedOf(counted: readonly Counted[]): WantedUses[] {
  const quotas = new Set(counted.map(({ quota }) => quota));
  quotas.delete(Infinity);
  const { subject, kind } = counted[0]!;
  return [...quotas].map((quota) => ({ subject, kind, quota }));
}
