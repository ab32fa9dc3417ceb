/** All checks of the abuse suite, in their order. */
import { BODIES } from './bodies.ts';
import { CALLERS } from './callers.ts';
import { runCheck } from './check.ts';
import type { Check, Result } from './check.ts';
import { FRAMING } from './framing.ts';
import { LIMITS } from './limits.ts';
import { RACES } from './races.ts';
import type { Target } from './target.ts';

const IN_TURN: readonly Check[] = [...RACES, ...CALLERS, ...LIMITS, ...BODIES];

/** Runs the checks that use limits one after another, and those of framing meanwhile. */
export async function runSuite(target: Target): Promise<Result[]> {
  const framing = Promise.all(FRAMING.map((check) => runCheck(check, target)));
  const results: Result[] = [];
  for (const check of IN_TURN) results.push(await runCheck(check, target));
  return [...results, ...await framing];
}
