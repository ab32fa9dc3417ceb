/**
 * Test identities (docs/policy.md, "Test identities"): users who get a fixed code and no message,
 * until a day. Everything else holds for them as for any user.
 */
import { MICROSECONDS_PER_DAY } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';

/** A test identity without its code, which no output shows. */
export type TestIdentity = Readonly<{
  /** A user_id, or the beginning of every user_id that is meant. */
  user: string;
  isPrefix: boolean;
  purposes: readonly string[];
  /** The end of its last day, in UTC. */
  endsAt: Instant;
}>;

/** A last day is at most this far away, so that nobody forgets an identity. */
const DAYS_MAX = 90;

/** The test identities of one policy file. */
export class TestIdentities {
  readonly list: readonly TestIdentity[];
  /** Private, so that nothing prints them. */
  readonly #codes: readonly string[];

  constructor(list: readonly TestIdentity[], codes: readonly string[]) {
    this.list = list;
    this.#codes = codes;
  }

  get isEmpty(): boolean {
    return this.list.length === 0;
  }

  /**
   * The fixed code of a user, who is an ordinary one from the end of the identity on.
   *
   * @param at until when the code is to be accepted
   */
  codeFor(userId: string, purpose: string, at: Instant): string | null {
    const index = this.list.findIndex((each) => covers(each, userId)
      && each.purposes.includes(purpose));
    return index === -1 || at > this.list[index]!.endsAt ? null : this.#codes[index]!;
  }
}

export const NO_TEST_IDENTITIES = new TestIdentities([], []);

function covers({ user, isPrefix }: TestIdentity, userId: string): boolean {
  return isPrefix ? userId.startsWith(user) : userId === user;
}

/** Whether two identities have a user and a purpose in common. */
export function overlap(one: TestIdentity, other: TestIdentity): boolean {
  return (covers(one, other.user) || covers(other, one.user))
    && one.purposes.some((purpose) => other.purposes.includes(purpose));
}

/** Marks the outcomes of test identities, for the log and the metrics. */
export function markTests<O extends object | null>(
  outcomes: readonly O[],
  isTest: (index: number) => boolean,
): O[] {
  return outcomes.map((outcome, index) =>
    outcome !== null && isTest(index) ? { ...outcome, isTest: true } : outcome);
}

/**
 * Finds last days that are too far away. One that has passed is not an error, because a restart
 * must not fail on it.
 *
 * @param now the clock of this machine
 * @returns one sentence for each, with the path of the member
 */
export function findLateEnds({ list }: TestIdentities, now: Instant): string[] {
  const today = Math.floor(now / MICROSECONDS_PER_DAY);
  return list.flatMap(({ endsAt }, index) =>
    endsAt / MICROSECONDS_PER_DAY - 1 <= today + DAYS_MAX ? []
      : [`test_identities[${index}].until: must be at most ${DAYS_MAX} days away;`
        + ' set an earlier day, and renew it when it is near']);
}
