/** What the command line of npm run bench selects, and what a comparison shows of it. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readOptions } from '../../../bench/options.ts';
import type { SummaryRow } from '../../../bench/summary.ts';
import { composeComparison } from '../../../bench/table.ts';
import type { TargetName } from '../../../bench/target.ts';

test('--group compares one node with a group, and never rewrites the page', () => {
  const { plan, isGroup, isWhole } = readOptions(['--group']);
  assert.equal([isGroup, isWhole, plan.rounds], [true, false, 3]);
  const targets = ['otpd', 'group', 'before'];
  assert.equal(plan.steps, [
    { workload: 'request', connections: 64, targets },
    { workload: 'verify', connections: 64, targets },
  ]);
  assert.is(readOptions(['--group', '--rounds', '9']).isWhole, false);
  assert.equal(readOptions(['--group', '--quick', '--only', 'refusal']).plan.steps,
    [{ workload: 'refusal', connections: 64, targets }]);
});

test('--against compares with another commit alone', () => {
  const { plan, isGroup } = readOptions(['--against', 'HEAD', '--only', 'verify',
    '--connections', '8']);
  assert.equal([isGroup, plan.steps],
    [false, [{ workload: 'verify', connections: 8, targets: ['base', 'otpd'] }]]);
  assert.throws(() => readOptions(['--group', '--against', 'HEAD']),
    /^--group and --against exclude each other\nusage: npm run bench/);
});

function row(target: TargetName, perSecond: number): SummaryRow {
  return {
    workload: 'verify', connections: 64, target, rounds: 3, perSecond, ratio: null, cpuRatio: null,
    p50Us: 1000, p99Us: 2000, nodeCpuUs: 100, mysqldCpuUs: 100, statements: 1, redoBytes: 0,
    binlogBytes: 0, dataBytes: 0, residentBytes: 1e6, errors: 0,
  };
}

function compare(argv: readonly string[], rows: readonly SummaryRow[]): string {
  const machine = {
    date: '2026-01-01', commit: 'abc', cores: 2, cpu: 'cpu', memoryGb: 8, system: 'linux x64',
    node: '20.19.0', mysql: '9.7.4', load: 'wrk', syncUs: 100,
  };
  return composeComparison({ machine, options: readOptions(argv), settings: {}, rows });
}

test('a comparison has a line for each service that is not the base', () => {
  const group = compare(['--group'], [row('otpd', 2000), row('group', 1500), row('before', 1000)]);
  assert.match(group, '| verify | 64 | group | 3 | 2000 | 1500 | 0.750 |');
  assert.match(group, '| verify | 64 | before | 3 | 2000 | 1000 | 0.500 |');
  assert.not.match(group, 'UNDER');
  const commit = compare(['--against', 'HEAD~1'], [row('base', 2000), row('otpd', 1900)]);
  assert.match(commit, '| verify | 64 | otpd | 3 | 2000 | 1900 | 0.950 |');
  assert.match(commit, 'Lowest throughput ratio: 0.950 (UNDER 0.97)');
});

test.run();
