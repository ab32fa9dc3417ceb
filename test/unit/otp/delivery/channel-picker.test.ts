import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CircuitBreaker } from '../../../../src/otp/delivery/channel-picker.ts';

/** A breaker after `times` consecutive failures at `nowMs`. */
function failed(times: number, nowMs: number): CircuitBreaker {
  const breaker = new CircuitBreaker();
  for (let i = 0; i < times; i += 1) breaker.end(breaker.begin(), true, nowMs);
  return breaker;
}

test('the fifth consecutive failure pauses a channel', () => {
  const breaker = failed(4, 0);
  assert.ok(breaker.canBegin(0));
  assert.is(breaker.end(breaker.begin(), true, 0), 'paused');
  assert.not.ok(breaker.canBegin(0));
});

test('a success resets the count of failures', () => {
  const breaker = failed(4, 0);
  assert.is(breaker.end(breaker.begin(), false, 0), null);
  for (let i = 0; i < 4; i += 1) breaker.end(breaker.begin(), true, 0);
  assert.ok(breaker.canBegin(0));
});

test('after a second the breaker allows one probe at a time', () => {
  const breaker = failed(5, 0);
  assert.not.ok(breaker.canBegin(999));
  assert.equal([breaker.readyInMs(400), breaker.readyInMs(2000)], [600, 0]);
  assert.ok(breaker.canBegin(1000));
  const probe = breaker.begin();
  assert.not.ok(breaker.canBegin(1000));
  assert.is(breaker.end(probe, false, 1000), 'resumed');
  assert.ok(breaker.canBegin(1000));
});

test('each failed probe doubles the pause, up to 30 s, without another event', () => {
  const breaker = failed(5, 0);
  let now = 0;
  for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    assert.not.ok(breaker.canBegin(now + pause - 1), `${pause}`);
    now += pause;
    assert.ok(breaker.canBegin(now), `${pause}`);
    assert.is(breaker.end(breaker.begin(), true, now), null);
  }
});

test('the results of attempts that began before the pause are ignored', () => {
  const breaker = new CircuitBreaker();
  const attempts = Array.from({ length: 100 }, () => breaker.begin());
  for (const attempt of attempts.slice(0, 90)) breaker.end(attempt, true, 0);
  assert.ok(breaker.canBegin(1000), 'ninety failures of one moment are one pause');
  for (const attempt of attempts.slice(90)) assert.is(breaker.end(attempt, false, 10), null);
  assert.not.ok(breaker.canBegin(999));
});

test('after a channel has resumed, the next pause is short again', () => {
  const breaker = failed(5, 0);
  breaker.end(breaker.begin(), true, 1000);
  breaker.end(breaker.begin(), false, 3000);
  for (let i = 0; i < 5; i += 1) breaker.end(breaker.begin(), true, 3000);
  assert.ok(breaker.canBegin(4000));
});

test.run();
