/** Runs every file of scenarios/ against the real service, four at a time, as one test each. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from './harness/client.ts';
import { createTestDatabase } from './harness/database.ts';
import type { TestDatabase } from './harness/database.ts';
import { ROOT } from './harness/program.ts';
import { parseScenario } from './scenario/parse-scenario.ts';
import { describeDifferences } from './scenario/report.ts';
import { runScenario } from './scenario/run.ts';
import type { StepResult } from './scenario/run.ts';

const FOLDER = join(ROOT, 'scenarios');
const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.scenario')).sort();

/** One database for each concurrent scenario; a scenario leaves its tables empty. */
const databases = Array.from({ length: 4 }, () => createTestDatabase());
const ends: Promise<unknown>[] = [...databases];

const RUNS_MAX = 3;

function missedDeadline({ passed, comparisons }: StepResult): boolean {
  return !passed && comparisons.some(({ got, differences }) => differences.length > 0
    && got.kind === 'reply' && got.reply.status === 503);
}

async function run(file: string, database: TestDatabase): Promise<void> {
  assert.match(file, /^[a-z]+\/[a-z0-9]+(-[a-z0-9]+)*\.scenario$/, 'a rule as a file name');
  const text = readFileSync(join(FOLDER, file), 'utf8');
  assert.match(text, /^# \S/, 'opens with its rule in prose');
  const scenario = parseScenario(`scenarios/${file}`, text);
  let results = await runScenario(scenario, database);
  // A busy machine may let a request miss its deadline, which no scenario is about.
  for (let runs = 1; runs < RUNS_MAX && results.some(missedDeadline); runs += 1) {
    results = await runScenario(scenario, database);
  }
  const differing = results.filter((result) => !result.passed);
  const shown = differing.map((result) => describeDifferences(`scenarios/${file}`, result));
  assert.is(differing.length, 0, `\n${shown.join('\n\n')}`);
}

for (const [index, file] of files.entries()) {
  const turn = index % databases.length;
  const ended = ends[turn]!.then(async () => run(file, await databases[turn]!));
  ends[turn] = ended.catch(() => {});
  test(file, () => ended);
}

test('the eight events of docs/api.md are among the scenarios', () => {
  assert.ok(files.includes('request/eight-events.scenario'));
});

test.after(async () => {
  closeClient();
  for (const database of await Promise.all(databases)) database.close();
});

test.run();
