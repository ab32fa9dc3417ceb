import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LineLimiter } from '../../../../src/app/log/log.ts';

type Withheld = [event: string, subject: string, count: number];

function create(): Readonly<{ limiter: LineLimiter; withheld: Withheld[] }> {
  const withheld: Withheld[] = [];
  const limiter = new LineLimiter((level, event, subject, count) => {
    assert.is(level, 'warn');
    withheld.push([event, subject, count]);
  });
  return { limiter, withheld };
}

function countAdmitted(limiter: LineLimiter, times: number, event: string, subject: string) {
  let admitted = 0;
  for (let index = 0; index < times; index += 1) {
    if (limiter.admits('warn', event, subject)) admitted += 1;
  }
  return admitted;
}

test('ten lines of an event and subject are admitted, and the rest are counted', () => {
  const { limiter, withheld } = create();
  assert.is(countAdmitted(limiter, 5000, 'malformed', 'a'), 10);
  assert.is(countAdmitted(limiter, 10, 'malformed', 'b'), 10);
  assert.is(countAdmitted(limiter, 11, 'refused', 'a'), 10);
  assert.equal(withheld, []);
  limiter.endWindow();
  assert.equal(withheld, [['malformed', 'a', 4990], ['refused', 'a', 1]]);
});

test('a new window admits lines again', () => {
  const { limiter, withheld } = create();
  countAdmitted(limiter, 20, 'malformed', 'a');
  limiter.endWindow();
  assert.is(countAdmitted(limiter, 20, 'malformed', 'a'), 10);
  limiter.endWindow();
  limiter.endWindow();
  assert.is(withheld.length, 2);
});

test('a flood of subjects shares one allowance of each event', () => {
  const { limiter, withheld } = create();
  let admitted = 0;
  for (let index = 0; index < 100_000; index += 1) {
    admitted += countAdmitted(limiter, 1, 'malformed', `subject ${index}`);
  }
  assert.is(admitted, 1010);
  assert.is(countAdmitted(limiter, 20, 'malformed', 'subject 7'), 9, 'known subjects keep theirs');
  assert.is(countAdmitted(limiter, 1, 'malformed', 'new'), 0);
  assert.is(countAdmitted(limiter, 20, 'refused', 'new'), 10);
  limiter.endWindow();
  const shared = withheld.filter(([, subject]) => subject === '');
  assert.equal(shared.map(([event, , count]) => [event, count]),
    [['malformed', 98_991], ['refused', 10]]);
});

test.run();
