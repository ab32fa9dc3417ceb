/** Runs a scenario: moves the clock, sends the requests of each moment, compares the answers. */
import { emptyTables } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { assignAnswers } from './assign.ts';
import { Client } from './client.ts';
import { differences } from './compare.ts';
import type { Got, NamedReplies } from './compare.ts';
import type { Expected, Moment, Scenario, Step } from './scenario.ts';
import { openFixture } from './fixture.ts';
import type { Fixture } from './fixture.ts';

/** An answer and the expectation it is assigned to. */
export type Comparison = Readonly<{ expected: Expected; got: Got; differences: string[] }>;

/** The comparisons of one line. */
export type StepResult = Readonly<{
  step: Step;
  comparisons: readonly Comparison[];
  passed: boolean;
}>;

/** The service answers every request within seconds, even on a busy machine; else it hangs. */
const MOMENT_MAX_MS = 60_000;

/**
 * Runs a scenario to its end despite differences, and leaves the tables empty.
 *
 * @param database has empty tables
 * @param onResult receives each line at the end of its moment
 * @throws Error when the services do not start or stop, or a moment does not end in time
 */
export async function runScenario(
  scenario: Scenario,
  database: TestDatabase,
  onResult: (result: StepResult) => void = () => {},
): Promise<StepResult[]> {
  const fixture = await openFixture(scenario, database.settings);
  const results: StepResult[] = [];
  try {
    const client = new Client(fixture);
    for (const moment of scenario.moments) {
      const ended = await withinBound(runMoment(fixture, client, moment), moment.at);
      ended.forEach(onResult);
      results.push(...ended);
    }
  } finally {
    await fixture.close().finally(() => emptyTables(database));
  }
  return results;
}

async function runMoment(
  fixture: Fixture,
  client: Client,
  { at, steps }: Moment,
): Promise<StepResult[]> {
  await fixture.setClock(at);
  const calls = steps.flatMap((step) => Array.from({ length: step.times }, () => step));
  // Every request is composed before the first is sent, so that all leave together.
  const sends = calls.map((step) => client.prepare(step));
  const gots = await Promise.all(sends.map((send) => send()));
  await fixture.setClock(at);
  await Promise.all(calls.map((step, index) => client.name(step, gots[index]!)));
  return compareAnswers(steps, gots, client.replies);
}

function compareAnswers(
  steps: readonly Step[],
  gots: readonly Got[],
  named: NamedReplies,
): StepResult[] {
  const expectations = steps.flatMap((step) => step.expected);
  const found = expectations.map((expected) =>
    gots.map((got) => differences(expected, got, named)));
  const answers = assignAnswers(gots.length, (expectation, answer) =>
    found[expectation]![answer]!.length === 0);
  let index = 0;
  return steps.map((step) => {
    const comparisons = step.expected.map((expected) => {
      const answer = answers[index]!;
      const one = { expected, got: gots[answer]!, differences: found[index]![answer]! };
      index += 1;
      return one;
    });
    return { step, comparisons, passed: comparisons.every((one) => one.differences.length === 0) };
  });
}

async function withinBound<T>(work: Promise<T>, at: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    const late = (): void => reject(new Error(`the moment ${at} did not end`));
    timer = setTimeout(late, MOMENT_MAX_MS);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
