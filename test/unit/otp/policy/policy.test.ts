import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { destinationOf } from '../../../../src/otp/channels/recipients.ts';

/** [user_id, digits, destination] */
const ROWS: [string, number, string | null][] = [
  ['+14155550123', 5, '+14155'],
  ['+14155550123', 1, '+1'],
  ['+1415555', 15, '+1415555'],
  ['+491701234567', 4, '+4917'],
  ['14155550123', 5, null],
  ['+0155550123', 5, null],
  ['+1 415 555 0123', 5, null],
  ['Person@Example.COM', 5, 'example.com'],
  ['person@EXAMPLE.com.', 5, 'example.com'],
  ['person+tag@GoogleMail.com', 5, 'gmail.com'],
  ['person@MÜNCHEN.de', 5, 'xn--mnchen-3ya.de'],
  ['ｐ@ｅｘａｍｐｌｅ.com', 5, 'example.com'],
  ['+4401701234567', 4, '+4417'],
  ['＋４４１７０１２３４５６７', 4, '+4417'],
  ['a@b@example.com', 5, null],
  ['person@localhost', 5, null],
  ['U1', 5, null],
  ['', 5, null],
];

for (const [userId, digits, destination] of ROWS) {
  test(`${JSON.stringify(userId)} with ${digits} digits has the destination ${destination}`, () => {
    assert.is(destinationOf(userId, digits), destination);
  });
}

test.run();
