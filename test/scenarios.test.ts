/** Every file of scenarios/, played on the real service: one test for each. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient } from './harness/client.ts';
import { ROOT } from './harness/program.ts';
import { parseScenario } from './scenario/parse-scenario.ts';
import { playScenario } from './scenario/run.ts';
import { describeVerdict } from './scenario/report.ts';

const FOLDER = join(ROOT, 'scenarios');
const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.scenario')).sort();

for (const file of files) {
  test(file, async () => {
    assert.match(file, /^[a-z]+\/[a-z0-9]+(-[a-z0-9]+)*\.scenario$/, 'a rule as a file name');
    const text = readFileSync(join(FOLDER, file), 'utf8');
    assert.match(text, /^# \S/, 'opens with its rule in prose');
    const verdicts = await playScenario(parseScenario(`scenarios/${file}`, text));
    const differing = verdicts.filter((verdict) => !verdict.passed);
    const shown = differing.map((verdict) => describeVerdict(`scenarios/${file}`, verdict));
    assert.is(differing.length, 0, `\n${shown.join('\n\n')}`);
  });
}

test('the eight events of the contract are among them', () => {
  assert.ok(files.includes('request/eight-events.scenario'));
});

test.after(closeClient);

test.run();
