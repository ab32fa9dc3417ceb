/** Plays a scenario: moves the clock, sends what happens at each moment, judges the answers. */
import { assignAnswers } from './assign.ts';
import { Cast } from './client.ts';
import { differences } from './compare.ts';
import type { Got, NamedReplies } from './compare.ts';
import type { Expected, Moment, Scenario, Step } from './scenario.ts';
import { openStage } from './fixture.ts';
import type { Stage } from './fixture.ts';

/** One answer beside what it was held against. */
export type Judged = Readonly<{ expected: Expected; got: Got; differences: string[] }>;

/** What came of one line. */
export type Verdict = Readonly<{
  step: Step;
  judged: readonly Judged[];
  passed: boolean;
}>;

/** The service answers every call within a few seconds; more means that it hangs. */
const MOMENT_TIMEOUT_MS = 30_000;

/**
 * Plays a scenario to its end, whatever differs on the way.
 *
 * @param onVerdict told of each line as its moment is over
 * @throws Error when the stage cannot be set or taken down, or a moment does not end within 30 s
 */
export async function playScenario(
  scenario: Scenario,
  onVerdict: (verdict: Verdict) => void = () => {},
): Promise<Verdict[]> {
  const stage = await openStage(scenario);
  const verdicts: Verdict[] = [];
  try {
    const cast = new Cast(stage);
    for (const moment of scenario.moments) {
      const judged = await withinBound(playMoment(stage, cast, moment), moment.at);
      judged.forEach(onVerdict);
      verdicts.push(...judged);
    }
  } finally {
    await stage.close();
  }
  return verdicts;
}

async function playMoment(stage: Stage, cast: Cast, { at, steps }: Moment): Promise<Verdict[]> {
  await stage.setClock(at);
  const calls = steps.flatMap((step) => Array.from({ length: step.times }, () => step));
  // Every call is composed before the first is sent, so that they leave together.
  const sends = calls.map((step) => cast.prepare(step));
  const gots = await Promise.all(sends.map((send) => send()));
  await stage.setClock(at);
  await Promise.all(calls.map((step, index) => cast.name(step, gots[index]!)));
  return judge(steps, gots, cast.replies);
}

function judge(steps: readonly Step[], gots: readonly Got[], named: NamedReplies): Verdict[] {
  const expectations = steps.flatMap((step) => step.expected);
  const results = expectations.map((expected) =>
    gots.map((got) => differences(expected, got, named)));
  const answers = assignAnswers(gots.length, (expectation, answer) =>
    results[expectation]![answer]!.length === 0);
  let index = 0;
  return steps.map((step) => {
    const judged = step.expected.map((expected) => {
      const answer = answers[index]!;
      const found = results[index]![answer]!;
      index += 1;
      return { expected, got: gots[answer]!, differences: found };
    });
    return { step, judged, passed: judged.every((one) => one.differences.length === 0) };
  });
}

async function withinBound<T>(work: Promise<T>, at: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    const late = (): void => reject(new Error(`the moment ${at} did not end`));
    timer = setTimeout(late, MOMENT_TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
