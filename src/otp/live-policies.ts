/** Policies that can be replaced while they are in use. */
import type { Policies, Policy } from './policy.ts';

/**
 * The policies in force. Whoever decides something asks once, and goes by the policy that it was
 * given: all numbers of one request come from one policy.
 */
export class LivePolicies implements Policies {
  #current: Policies;

  constructor(current: Policies) {
    this.#current = current;
  }

  /** Puts other policies in force, from the next request on. */
  replace(next: Policies): void {
    this.#current = next;
  }

  get default(): Policy {
    return this.#current.default;
  }

  /** As Policies has it. */
  for(purpose: string): Policy {
    return this.#current.for(purpose);
  }

  /** As Policies has it. */
  allows(purpose: string): boolean {
    return this.#current.allows(purpose);
  }

  get keepKeysVariously(): boolean {
    return this.#current.keepKeysVariously;
  }
}
