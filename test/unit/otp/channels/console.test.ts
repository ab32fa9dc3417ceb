/** The console channel: lines for a terminal that a client cannot forge. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createConsoleChannel } from '../../../../src/otp/channels/console.ts';
import { newMessage, SENT_AT, TEMPLATES } from './fixture.ts';

/** [user_id, as it is printed] */
const USERS: [string, string][] = [
  ['U1', 'U1'],
  ['+14155550123', '+14155550123'],
  ['first.last@example.com', 'first.last@example.com'],
  ['U1: 123456 is your code', '"U1: 123456 is your code"'],
  ['\u202e\u0085"ü\\', '"\\u202e\\u0085\\"\\u00fc\\\\"'],
  ['', '""'],
];

test('a line names the user, quoted and escaped if it has other characters', async () => {
  const printed: string[] = [];
  const channel = createConsoleChannel((lines) => { printed.push(lines); }, TEMPLATES);
  for (const [userId, shown] of USERS) {
    const message = newMessage({ userId });
    assert.equal(await channel.send(message, SENT_AT), { kind: 'accepted' });
    assert.is(printed.pop(), `message to ${shown}: ${TEMPLATES.text(message)}`);
  }
});

test('messages of one turn are printed together', async () => {
  const printed: string[] = [];
  const channel = createConsoleChannel((lines) => { printed.push(lines); }, TEMPLATES);
  await Promise.all(['U1', 'U2'].map((userId) => channel.send(newMessage({ userId }), SENT_AT)));
  assert.is(printed.length, 1);
  assert.match(printed[0]!, /^message to U1: .*\nmessage to U2: .*$/);
});

test('a line names the address that the message goes to', async () => {
  const printed: string[] = [];
  const channel = createConsoleChannel((lines) => { printed.push(lines); }, TEMPLATES);
  const message = newMessage({ userId: 'U1', to: 'a@b.example' });
  await channel.send(message, SENT_AT);
  assert.equal(printed, [`message to a@b.example: ${TEMPLATES.text(message)}`]);
});

test.run();
