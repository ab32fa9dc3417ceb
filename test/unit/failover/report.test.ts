/** What npm run failover concludes from what it has observed: delays, gaps, goals, pages. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EVENTS } from '../../failover/events.ts';
import { longestGap, Observations, slowestMessageMs } from '../../failover/observations.ts';
import { EVENT_NAMES, readOptions } from '../../failover/options.ts';
import {
  describeProbes, describeVerdicts, judge, measureDelays,
} from '../../failover/readiness.ts';
import type { Facts, Probe, Verdict, VerdictAt } from '../../failover/readiness.ts';
import { composeChart, composePage, composeTable, missedGoals } from '../../failover/report.ts';
import type { Findings, Outcome } from '../../failover/report.ts';

const PRIMARY: Facts = {
  state: 'ONLINE', isPrimary: true, takesWrites: true, hasMajority: true, members: 3,
};
const SECONDARY: Facts = { ...PRIMARY, isPrimary: false, takesWrites: false };

test('the servers are ready when one is primary, takes writes and has the majority', () => {
  assert.is(judge([SECONDARY, PRIMARY, null], 0), 'ready');
  assert.is(judge([SECONDARY, PRIMARY, null], 2000), 'either');
  assert.is(judge([{ ...PRIMARY, hasMajority: false }, null, null], 0), 'quorum');
  assert.is(judge([{ ...PRIMARY, hasMajority: false }, PRIMARY, SECONDARY], 0), 'ready');
  assert.is(judge([{ ...PRIMARY, takesWrites: false }, SECONDARY], 0), 'read_only');
  assert.is(judge([{ ...PRIMARY, state: 'ERROR' }, SECONDARY], 0), 'quorum');
  assert.is(judge([null, null, null], 0), 'database');
});

function verdicts(...all: readonly [number, Verdict][]): VerdictAt[] {
  return all.map(([atMs, verdict]) => ({ atMs, verdict, primary: 0 }));
}

function probes(...all: readonly [number, boolean][]): Probe[] {
  return all.map(([atMs, isReady]) => ({ atMs, isReady, failed: isReady ? [] : ['writes'] }));
}

test('a delay is the time from the change of the servers to the answer that follows it', () => {
  const said = verdicts([0, 'ready'], [1000, 'read_only'], [7000, 'ready'], [9000, 'ready']);
  const answers = probes([0, true], [900, true], [1600, false], [7100, false], [8200, true]);
  assert.equal(measureDelays(said, answers), { to503Ms: 600, to200Ms: 1200 });
});

test('an answer that is never right is wrong until the end', () => {
  const said = verdicts([0, 'ready'], [1000, 'quorum'], [6000, 'quorum']);
  assert.equal(measureDelays(said, probes([0, true], [5900, true])),
    { to503Ms: 5000, to200Ms: 0 });
});

test('no answer is wrong while the servers say that all is well and no write is answered', () => {
  const said = verdicts([0, 'ready'], [1000, 'either'], [6000, 'quorum'], [8000, 'quorum']);
  assert.equal(measureDelays(said, probes([0, true], [2000, false], [8000, false])),
    { to503Ms: 0, to200Ms: 0 });
  assert.equal(measureDelays(said, probes([0, true], [6500, false])),
    { to503Ms: 500, to200Ms: 0 });
});

test('the changes of /readyz and of the servers are one line each', () => {
  const all: Probe[] = [...probes([0, true], [1500, false], [1700, false]),
    { atMs: 2000, isReady: false, failed: null }, ...probes([4000, true])];
  assert.is(describeProbes(all, 1000), '200, 0.5 s 503 writes, 1.0 s no answer, 3.0 s 200');
  assert.is(describeVerdicts(verdicts([0, 'ready'], [1500, 'either'], [2000, 'either']), 1000),
    'ready, 0.5 s either');
});

test('the gap is the longest time between two good answers', () => {
  assert.equal(longestGap([100, 200, 6900, 7000, 7500]), { fromMs: 200, toMs: 6900 });
  assert.equal(longestGap([]), { fromMs: 0, toMs: 0 });
  assert.equal(new Observations().longestGap(9000), { fromMs: 0, toMs: 9000 });
});

test('a message counts from its 201, or from the end of the gap in which it fell', () => {
  const gap = { fromMs: 1000, toMs: 8000 };
  const slowest = (issuedAt: number, arrivedAt: number): number | null =>
    slowestMessageMs(new Map([['a', issuedAt]]), new Map([['a', arrivedAt]]), gap);
  assert.is(slowest(500, 700), 200);
  assert.is(slowest(1000, 8300), 300);
  assert.is(slowest(9000, 24_000), 15_000);
  assert.is(slowestMessageMs(new Map([['a', 1]]), new Map(), gap), null);
});

function outcome(changes: Partial<Outcome> = {}): Outcome {
  return {
    name: 'kill', eventMs: 5000, newPrimaryMs: 11_600, gapMs: 6600, failed: 900, slowestMs: 2700,
    issued: 500, redeemed: 490, lost: 0, wrongCount: 0, wrong: [], redeemedTwice: 0, sentTwice: 0,
    messageMs: 300, delays: { to503Ms: 400, to200Ms: 700 }, servers: 'ready', named: [],
    probes: ['200', '200'],
    seconds: [{ good: 60, failed: 0 }, { good: 0, failed: 40 }], ...changes,
  };
}

test('an event that keeps its goals misses none', () => {
  assert.equal(missedGoals(outcome()), []);
  assert.equal(missedGoals(outcome({ name: 'move', gapMs: 900, failed: 0 })), []);
  assert.equal(missedGoals(outcome({ name: 'quorum', gapMs: 16_900, named: ['quorum'] })), []);
});

test('every goal can be missed', () => {
  const missed = (changes: Partial<Outcome>): number => missedGoals(outcome(changes)).length;
  assert.is(missed({ gapMs: 8001 }), 1);
  assert.is(missed({ slowestMs: 3001 }), 1);
  assert.is(missed({ delays: { to503Ms: 2001, to200Ms: 2001 } }), 2);
  assert.is(missed({ messageMs: 1001 }), 1);
  assert.is(missed({ messageMs: null }), 1);
  assert.is(missed({ issued: 0, redeemed: 0 }), 1);
  assert.is(missed({ lost: 1, wrongCount: 1, redeemedTwice: 1 }), 3);
  assert.is(missed({ name: 'move', gapMs: 1001, failed: 1 }), 2);
  assert.is(missed({ name: 'quorum', gapMs: 17_001, named: ['writes'] }), 2);
  assert.is(missed({ name: 'read-only', gapMs: 8001, named: [] }), 2);
});

const FOUND: Findings = {
  machine: {
    date: '2026-01-01', commit: 'abc', cores: 2, cpu: 'cpu', memoryGb: 8, system: 'linux x64',
    node: '20.19.0', mysql: '9.7.4', load: 'test/failover', syncUs: 100,
  },
  loadAverage: 1.5,
  settings: { group_replication_member_expel_timeout: '0' },
  outcomes: [outcome(), outcome({ name: 'stop', wrongCount: 1, wrong: ['right: 404'] })],
  notRun: [{ name: 'partition', reason: 'no <namespace>' }],
};

test('an event that was not run is named and never passes', () => {
  const row = composeTable(FOUND).split('\n').find((line) => line.includes('cut off'))!;
  assert.match(row, '**not run**: no <namespace>');
  assert.not.match(row, 'met');
  assert.match(composeChart(FOUND), 'no &lt;namespace>');
});

test('the page has the table, the versions, the chart and what was wrong', () => {
  const page = composePage(FOUND);
  for (const text of ['MySQL 9.7.4', 'Load average 1.5', 'failover.svg',
    '| met |', '**missed**: wrongCount 1',
    '- wrong, stop: right: 404', 'group_replication_member_expel_timeout=0']) {
    assert.ok(page.includes(text), text);
  }
  const rows = page.split('\n').filter((line) => line.startsWith('| '));
  assert.is(new Set(rows.map((row) => row.split(' | ').length)).size, 1);
});

test('the chart has a panel for each event, with the event and the new primary', () => {
  const chart = composeChart(FOUND);
  for (const colour of ['#2f74c0', '#c9a227', '#d9480f', '#2b8a3e']) {
    assert.is(chart.split(`stroke="${colour}"`).length - 1, 2, colour);
  }
  assert.ok(chart.includes(EVENTS.kill.title));
});

test('the options choose events and their length, and refuse what they do not know', () => {
  assert.equal(readOptions([]).events, EVENT_NAMES);
  assert.is(readOptions([]).isWhole, true);
  const some = readOptions(['--only', 'quorum,kill', '--seconds', '30', '--set', 'A_B=c=d',
    '--set', 'a_b=1']);
  assert.equal([some.events, some.seconds, some.environment, some.memberSettings, some.isWhole],
    [['kill', 'quorum'], 30, { A_B: 'c=d' }, { a_b: '1' }, false]);
  for (const argv of [['--only', 'fire'], ['--seconds', '5'], ['--set', 'a'], ['--set', 'a B=1'],
    ['--seconds', 'x']]) {
    assert.throws(() => readOptions(argv), /npm run failover/);
  }
});

test.run();
