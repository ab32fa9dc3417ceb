import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { byKey } from '../../../src/db/query.ts';

test('byKey orders by code units and says when two keys are equal', () => {
  const compare = byKey((word: string) => word);
  assert.equal([compare('a', 'b'), compare('b', 'a'), compare('a', 'a')], [-1, 1, 0]);
  assert.equal(['ä', 'b', 'B', 'a', '10', '9'].sort(compare), ['10', '9', 'B', 'a', 'b', 'ä']);
});

test.run();
