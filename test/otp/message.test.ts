import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createConsoleChannel } from '../../src/otp/console-channel.ts';
import { composeText } from '../../src/otp/message.ts';
import { RefusedLately } from '../../src/otp/refused-lately.ts';

const MESSAGE = {
  otpId: 'ab', userId: 'U1', purpose: 'login', code: '012345', lifetimeSeconds: 300,
};

test('says the code, what it is for, and how long it works', () => {
  assert.is(composeText(MESSAGE),
    '012345 is your code for login. It works for 5 minutes. Never share it with anyone.');
  assert.match(composeText({ ...MESSAGE, lifetimeSeconds: 60 }), /for 1 minute\./);
  assert.match(composeText({ ...MESSAGE, lifetimeSeconds: 90 }), /for 90 seconds\./);
});

test('the console channel prints one line', () => {
  const lines: string[] = [];
  createConsoleChannel((line) => lines.push(line))(MESSAGE);
  assert.is(lines.length, 1);
  assert.match(lines[0]!, /^message to U1: 012345 is/);
});

test('who was refused lately is remembered, within a bound, until let through', () => {
  const lately = new RefusedLately();
  assert.not(lately.hasAny(['user 0']));
  for (let i = 0; i <= 10_000; i += 1) lately.add(`user ${i}`);
  assert.not(lately.hasAny(['user 0']), 'the oldest made room');
  assert.ok(lately.hasAny(['user x', 'user 1']));
  lately.add('user 1');
  lately.add('user new');
  assert.not(lately.hasAny(['user 2']), 'the oldest is who was refused longest ago');
  assert.ok(lately.hasAny(['user 1']));
  lately.forget(['user 1']);
  assert.not(lately.hasAny(['user 1']));
});

test.run();
