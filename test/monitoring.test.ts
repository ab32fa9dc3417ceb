/**
 * The rules and the dashboard select metrics and labels that otpd has: docs/metrics.md, which a
 * test compares with the metrics of a process.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  dashboardExpressions, groupedBy, readPanels, readRules, readRuleTests, selectedBy,
} from './harness/expressions.ts';
import { textOf } from './harness/deployment.ts';

const PAGE = textOf('docs/metrics.md');

/** The labels of each metric, by the names of its series. */
const SERIES = new Map<string, string[]>();
const ROW = /^\| `((?:otpd|process|nodejs)_\w+)(?:\{([\w, ]+)\})?` \| (\w+) \|/gm;
for (const [, name = '', list = '', type] of PAGE.matchAll(ROW)) {
  const labels = list.split(', ').filter((label) => label !== '');
  const ends = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  for (const end of ends) SERIES.set(name + end, end === '' ? labels : [...labels, 'le']);
}

const RULES = readRules();
const ALERTS = RULES.flatMap(({ alert }) => alert ?? []);

/** Series that Prometheus adds, and those that the rules record. */
const MORE = ['up', ...RULES.flatMap(({ record }) => record ?? [])];

/** Labels that Prometheus adds. */
const TARGET_LABELS = ['job', 'instance'];

/** What an expression selects or groups by that does not exist. */
function findUnknown(expr: string): string[] {
  const selected = selectedBy(expr);
  assert.ok(selected.length > 0, expr);
  const labelsOf = (name: string): string[] => [...TARGET_LABELS, ...SERIES.get(name)
    ?? RULES.filter(({ record }) => record === name).flatMap((rule) => groupedBy(rule.expr))];
  const known = new Set(selected.flatMap(({ name }) => labelsOf(name)));
  return [
    ...selected.filter(({ name }) => !SERIES.has(name) && !MORE.includes(name))
      .map(({ name }) => name),
    ...selected.flatMap(({ name, labels }) =>
      labels.filter((label) => !labelsOf(name).includes(label)).map((label) => `${name} ${label}`)),
    ...groupedBy(expr).filter((label) => !known.has(label)),
  ];
}

test('what an expression selects is found in it', () => {
  const expr = 'sum by (job, le) (rate(a_bucket{code=~"b|c{}", le!="1"}[5m])) > 2 and d:e / f';
  assert.equal(selectedBy(expr), [
    { name: 'a_bucket', labels: ['code', 'le'] }, { name: 'd:e', labels: [] },
    { name: 'f', labels: [] },
  ]);
  assert.equal(groupedBy(expr), ['job', 'le']);
  assert.equal(findUnknown('sum by (le) (rate(otpd_locks_total{channel="x"}[5m])) / otpd_none'),
    ['otpd_none', 'otpd_locks_total channel', 'le']);
});

test('every expression of the rules and the dashboard selects metrics and labels of otpd', () => {
  const expressions = [...RULES.map(({ expr }) => expr), ...dashboardExpressions()];
  assert.ok(SERIES.size > 50 && expressions.length > 60);
  assert.equal(expressions.flatMap((expr) =>
    findUnknown(expr).map((name) => `${name}: ${expr}`)), []);
});

test('the values of route and code that are selected exist', () => {
  const text = PAGE + textOf('src/http/response.ts');
  const values = [...RULES.map(({ expr }) => expr), ...dashboardExpressions()]
    .flatMap((expr) => [...expr.matchAll(/\b(?:code|limit|result)=~?"([^"]*)"/g)])
    .flatMap(([, list]) => list!.split('|'));
  assert.ok(values.length > 10);
  assert.equal(values.filter((value) => !new RegExp(`\\b${value}\\b`).test(text)), []);
});

test('every alert is described, has a severity, and is tested firing and silent', () => {
  const described = [...PAGE.matchAll(/^\| `(Otpd\w+)` \| (\w+) \|/gm)]
    .map(([, name, severity]) => `${name} ${severity}`);
  assert.equal(RULES.flatMap(({ alert, labels }) =>
    (alert === undefined ? [] : `${alert} ${labels?.severity}`)), described);
  const tested = readRuleTests().flatMap(({ alert_rule_test: [one] }) =>
    `${one!.alertname} ${one!.exp_alerts.length}`);
  assert.equal(tested.sort(), ALERTS.flatMap((name) => [`${name} 0`, `${name} 1`]).sort());
  for (const { annotations } of RULES.filter(({ alert }) => alert !== undefined)) {
    assert.match(annotations?.summary ?? '', /^.+\.$/);
  }
});

test('every metric of otpd is on the dashboard, but for those with a second name', () => {
  const shown = new Set(dashboardExpressions().flatMap(selectedBy).map(({ name }) => name));
  const missing = [...SERIES.keys()].filter((name) => name.startsWith('otpd_') && !shown.has(name));
  assert.equal(missing, [
    'otpd_http_request_duration_seconds_sum', 'otpd_http_request_duration_seconds_count',
    'otpd_batch_size_bucket', 'otpd_database_search_seconds_sum',
    'otpd_database_search_seconds_count', 'otpd_event_loop_delay_p50_seconds',
    'otpd_event_loop_delay_p99_seconds', 'otpd_resident_memory_bytes', 'otpd_heap_used_bytes',
    'otpd_heap_size_bytes', 'otpd_uptime_seconds',
  ]);
});

test('no panel of the dashboard covers another, and each has a number of its own', () => {
  const panels = readPanels();
  assert.is(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, at) => `${x + at % w} ${y + Math.floor(at / w)}`));
  assert.is(new Set(cells).size, cells.length);
  assert.ok(panels.every(({ gridPos: { x, w } }) => x + w <= 24));
});

test('the picture of the dashboard shows every panel', () => {
  const titles = [...textOf('docs/dashboard.svg').matchAll(/class="title \w+"[^>]*>([^<]*)</g)];
  assert.equal(titles.map(([, title]) => title), readPanels().map(({ title }) => title));
});

test.run();
