import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  counter, encodeFamilies, gauge, histogram, Histogram, info, processCounter, processGauge,
} from '../../../src/metrics/families.ts';
import { mergeFamilies, remainsOf } from '../../../src/metrics/families.ts';
import { parseExposition, valueOf } from '../../harness/exposition.ts';

const ODD = 'a\\b"c\nd,}= é';

test('a family has one HELP and TYPE, and one line per label set', () => {
  const text = encodeFamilies([
    counter('a_total', 'All.', [[{ x: '1' }, 2], [{ x: '2', y: '' }, 0]]),
    gauge('b', 'Now.', 0.5),
  ]);
  assert.is(text, '# HELP a_total All.\n# TYPE a_total counter\n'
    + 'a_total{x="1"} 2\na_total{x="2",y=""} 0\n# HELP b Now.\n# TYPE b gauge\nb 0.5\n');
});

test('backslashes, quotes and line ends are escaped and parse back', () => {
  const text = encodeFamilies([gauge('a', 'one\\two\nthree "four"', [[{ x: ODD }, 1]])]);
  assert.is(text.split('\n')[0], '# HELP a one\\\\two\\nthree "four"');
  assert.is(text.split('\n')[2], 'a{x="a\\\\b\\"c\\nd,}= é"} 1');
  assert.is(valueOf(parseExposition(text), 'a', { x: ODD }), 1);
});

test('a histogram counts a bound in its bucket, and larger values in +Inf', () => {
  const one = new Histogram([0.1, 1]);
  for (const value of [0.05, 0.1, 0.11, 1, 7]) one.observe(value);
  const text = encodeFamilies([histogram('h', 'H.', [[{ x: 'y' }, one]])]);
  assert.equal(text.split('\n').slice(2), [
    'h_bucket{x="y",le="0.1"} 2', 'h_bucket{x="y",le="1"} 4', 'h_bucket{x="y",le="+Inf"} 5',
    'h_sum{x="y"} 8.26', 'h_count{x="y"} 5', '',
  ]);
});

test('merging sums the samples of workers, and labels those of a single process', () => {
  const families = [1, 2].map((worker) => {
    const sizes = new Histogram([1]);
    sizes.observe(worker);
    return { worker, families: [
      counter('a_total', 'A.', [[{ x: '1' }, worker]]), histogram('h', 'H.', [[{}, sizes]]),
      gauge('g', 'G.', 10), processGauge('m', 'M.', [[{ y: 'z' }, worker * 100]]),
      processCounter('p_seconds_total', 'P.', worker / 4), info('b_info', 'B.', { version: '1' }),
    ] };
  });
  const metrics = parseExposition(encodeFamilies(mergeFamilies(families)));
  assert.is(valueOf(metrics, 'a_total', { x: '1' }), 3);
  assert.is(valueOf(metrics, 'h_bucket', { le: '1' }), 1);
  assert.is(valueOf(metrics, 'h_count'), 2);
  assert.is(valueOf(metrics, 'h_sum'), 3);
  assert.is(valueOf(metrics, 'g'), 20);
  assert.is(valueOf(metrics, 'm', { y: 'z', worker: '2' }), 200);
  assert.is(valueOf(metrics, 'p_seconds_total', { worker: '1' }), 0.25);
  assert.is(valueOf(metrics, 'b_info', { version: '1' }), 1);
  assert.equal(remainsOf(families[0]!.families).map(({ name }) => name), ['a_total', 'h']);
});

/** Expositions that the parser of the tests must reject. */
const INVALID = [
  'a 1\n', '# HELP a A.\na 1\n', '# HELP a A.\n# TYPE a gauge\n',
  '# HELP a A.\n# TYPE a gauge\na 1',
  '# HELP a A.\r\n# TYPE a gauge\r\na 1\r\n', '# HELP a A.\n# TYPE a gauge\na 1\na 2\n',
  '# HELP a A.\n# TYPE a gauge\na{x="\\y"} 1\n', '# HELP a A.\n# TYPE a gauge\na{x="1",x="2"} 1\n',
  '# HELP a A.\n# TYPE a counter\na 1\n', '# HELP a A.\n# TYPE a gauge\na one\n',
  '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\n'
    + 'h_count 1\n',
  '# HELP h H.\n# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n',
  `${'# HELP a A.\n# TYPE a gauge\na 1\n'.repeat(2)}`,
];

for (const text of INVALID) {
  test(`the parser rejects ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseExposition(text));
  });
}

test.run();
