/** The result for each status and error code, and Retry-After. */
import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRetryAfter, httpSendResult } from '../../../../src/otp/channels/http-client.ts';

function kindOf(status: number): string {
  return httpSendResult({ status, retryAfterSeconds: null }).kind;
}

test('every status has its result', () => {
  const notNow = new Set([408, 409, 423, 425, 429]);
  const ofMessage = new Set([400, 422]);
  for (let status = 0; status < 1000; status += 1) {
    const expected = status >= 200 && status < 300 ? 'accepted'
      : ofMessage.has(status) ? 'refused'
        : status >= 300 && status < 500 && !notNow.has(status) ? 'denied' : 'retry';
    assert.is(kindOf(status), expected, String(status));
  }
  for (const status of [301, 307, 401, 402, 403, 404, 407, 410, 413]) {
    assert.is(kindOf(status), 'denied', String(status));
  }
});

test('a reason is a status or an error code, and a retry carries Retry-After', () => {
  assert.equal(httpSendResult({ status: 503, retryAfterSeconds: 7 }),
    { kind: 'retry', reason: 'status 503', afterSeconds: 7 });
  assert.equal(httpSendResult({ status: 500, retryAfterSeconds: null }),
    { kind: 'retry', reason: 'status 500', afterSeconds: null });
  assert.equal(httpSendResult({ status: 402, retryAfterSeconds: 7 }),
    { kind: 'denied', reason: 'status 402', afterSeconds: 7 });
  assert.equal(httpSendResult({ status: 400, retryAfterSeconds: 7 }),
    { kind: 'refused', reason: 'status 400' });
  assert.equal(httpSendResult({ code: 'ECONNREFUSED' }),
    { kind: 'retry', reason: 'ECONNREFUSED', afterSeconds: null });
  assert.equal(httpSendResult({ status: 204, retryAfterSeconds: 7 }), { kind: 'accepted' });
});

const AT = 'Wed, 21 Oct 2015 07:28:00 GMT';

test('Retry-After is seconds, or a date relative to the Date of the response', () => {
  const rows: [string | undefined, string | undefined, number | null][] = [
    [undefined, AT, null],
    ['0', undefined, 0],
    ['120', undefined, 120],
    ['600', undefined, 600],
    ['601', undefined, 600],
    ['9'.repeat(400), undefined, 600],
    [AT, 'Wed, 21 Oct 2015 07:26:30 GMT', 90],
    [AT, AT, 0],
    [AT, 'Wed, 21 Oct 2015 07:28:01 GMT', 0],
    [AT, 'Tue, 20 Oct 2015 07:28:00 GMT', 600],
    [AT, undefined, null],
    [AT, 'soon', null],
    [AT, `${AT}, ${AT}`, null],
    ['', AT, null],
    ['-1', AT, null],
    ['1.5', AT, null],
    ['1e2', AT, null],
    ['2015-10-21', AT, null],
    ['Wed, 99 Oct 2015 07:28:00 GMT', AT, null],
    // Date.parse would assume the time zone of this machine.
    ['Wed Oct 21 07:28:00 2015', AT, null],
  ];
  for (const [field, date, expected] of rows) {
    assert.is(readRetryAfter(field, date), expected, `${field} at ${date}`);
  }
});

test('property: any Retry-After gives null or 0 to 600 whole seconds', () => {
  const field = fc.oneof(fc.string(), fc.integer().map(String),
    fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()));
  fc.assert(fc.property(field, field, (retryAfter, date) => {
    const seconds = readRetryAfter(retryAfter, date);
    assert.ok(seconds === null || (Number.isInteger(seconds) && seconds >= 0 && seconds <= 600));
  }), { numRuns: 2000 });
});

test.run();
