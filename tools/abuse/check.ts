/** What a check of the abuse suite is, and the three ways in which it ends. */
import type { Target } from './target.ts';

export type Check = Readonly<{
  name: string;
  /** Returns what was seen. Throws Finding or NotRun. */
  run: (target: Target) => Promise<string>;
}>;

export type Result = Readonly<{
  name: string;
  kind: 'ok' | 'FINDING' | 'not run';
  detail: string;
}>;

/** The installation does what it must not do. */
export class Finding extends Error {
  override name = 'Finding';
}

/** A check needs something that it was not given, such as the codes or a larger budget. */
export class NotRun extends Error {
  override name = 'NotRun';
}

/** @throws Finding when the condition is false */
export function expect(condition: boolean, finding: string): asserts condition {
  if (!condition) throw new Finding(finding);
}

/** Any other error, such as a broken connection, is a finding: each request must be answered. */
export async function runCheck(check: Check, target: Target): Promise<Result> {
  const { name } = check;
  try {
    return { name, kind: 'ok', detail: await check.run(target) };
  } catch (error) {
    if (error instanceof NotRun) return { name, kind: 'not run', detail: error.message };
    const { message } = error as Error;
    const detail = error instanceof Finding ? message : `a request was not answered: ${message}`;
    return { name, kind: 'FINDING', detail };
  }
}
