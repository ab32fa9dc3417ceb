import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CircuitBreaker } from '../../../../src/otp/delivery/channel-picker.ts';

/** A breaker whose attempts have failed so often in a row, all before nowMs. */
function failed(times: number, nowMs: number): CircuitBreaker {
  const breaker = new CircuitBreaker();
  for (let i = 0; i < times; i += 1) breaker.end(breaker.begin(), true, nowMs);
  return breaker;
}

test('four failures in a row do not pause a channel, the fifth does', () => {
  const breaker = failed(4, 0);
  assert.ok(breaker.canBegin(0));
  assert.is(breaker.end(breaker.begin(), true, 0), 'paused');
  assert.not.ok(breaker.canBegin(0));
});

test('a success in between starts the count over', () => {
  const breaker = failed(4, 0);
  assert.is(breaker.end(breaker.begin(), false, 0), null);
  for (let i = 0; i < 4; i += 1) breaker.end(breaker.begin(), true, 0);
  assert.ok(breaker.canBegin(0));
});

test('after a second one attempt may try it out, and only one at a time', () => {
  const breaker = failed(5, 0);
  assert.not.ok(breaker.canBegin(999));
  assert.equal([breaker.readyInMs(400), breaker.readyInMs(2000)], [600, 0]);
  assert.ok(breaker.canBegin(1000));
  const probe = breaker.begin();
  assert.not.ok(breaker.canBegin(1000));
  assert.is(breaker.end(probe, false, 1000), 'resumed');
  assert.ok(breaker.canBegin(1000));
});

test('each probe that fails doubles the pause, up to 30 s, and is told once', () => {
  const breaker = failed(5, 0);
  let now = 0;
  for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    assert.not.ok(breaker.canBegin(now + pause - 1), `${pause}`);
    now += pause;
    assert.ok(breaker.canBegin(now), `${pause}`);
    assert.is(breaker.end(breaker.begin(), true, now), null);
  }
});

test('attempts that were under way when it was paused change nothing, whatever their end', () => {
  const breaker = new CircuitBreaker();
  const attempts = Array.from({ length: 100 }, () => breaker.begin());
  for (const attempt of attempts.slice(0, 90)) breaker.end(attempt, true, 0);
  assert.ok(breaker.canBegin(1000), 'ninety failures of one moment are one pause');
  for (const attempt of attempts.slice(90)) assert.is(breaker.end(attempt, false, 10), null);
  assert.not.ok(breaker.canBegin(999));
});

test('a channel that works again starts with a short pause the next time', () => {
  const breaker = failed(5, 0);
  breaker.end(breaker.begin(), true, 1000);
  breaker.end(breaker.begin(), false, 3000);
  for (let i = 0; i < 5; i += 1) breaker.end(breaker.begin(), true, 3000);
  assert.ok(breaker.canBegin(4000));
});

test.run();
