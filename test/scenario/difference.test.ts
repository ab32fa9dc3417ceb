/** A wrong expectation fails, and its differences are shown. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { closeClient } from '../harness/client.ts';
import { assignAnswers } from './assign.ts';
import { parseScenario } from './parse-scenario.ts';
import { runScenario } from './run.ts';
import type { StepResult } from './run.ts';
import { describeDifferences, tableEvent, tableHead } from './report.ts';

const ISSUED = '201 otp_id=* ttl=300 remaining_requests';
const WRONG = '401 error=invalid_code attempts_remaining';
const VERIFY = 'U1 from 1.1.1.1 verifies a with';
const REQUEST = 'U1 from 1.1.1.1 requests a';

let database: TestDatabase;
test.before(async () => { database = await createTestDatabase(); });
test.after(() => database.close());

function run(...lines: string[]): Promise<StepResult[]> {
  const text = ['date 2026-01-05', ...lines].join('\n');
  return runScenario(parseScenario('x.scenario', text), database);
}

function outcomes(results: readonly StepResult[]): string {
  return results.map(({ passed }) => (passed ? 'ok' : 'DIFFERENCE')).join(' ');
}

test('every kind of wrong expectation fails, and a right one passes', async () => {
  const results = await run(
    `08:00:00 ${REQUEST} with key k as $c => ${ISSUED}=2`,
    `08:00:00 ${REQUEST} => 201 otp_id=* ttl=300 remaining_requests=2`,
    `08:00:01 ${VERIFY} $c => 200 success=true message=verification_successful`,
    `08:00:02 ${VERIFY} a wrong code => 401 error=invalid_code`,
    `08:00:02 ${VERIFY} a wrong code => 429 error=too_many_attempts retry_after_seconds="600"`,
    `08:00:03 ${REQUEST} => 429 error=too_many_attempts retry_after_seconds=599 [Retry-After: 600]`,
    `08:00:03 ${REQUEST} => 429 error=too_many_attempts retry_after_seconds=599 [no Retry-After]`,
    `08:00:03 ${REQUEST} with key k => the same answer as $c [no Idempotent-Replayed]`,
    `08:00:03 U2 from 1.1.1.1 requests a => the same answer as $c`,
    `08:00:03 U3 from 1.1.1.1 requests a => ${ISSUED}=* surplus=*`,
    '08:00:03 messages sent so far => 3',
    '08:00:03 operator unlocks U1 b => done',
    '08:00:03 messages sent so far => 4',
  );
  assert.is(outcomes(results), 'ok DIFFERENCE DIFFERENCE DIFFERENCE DIFFERENCE DIFFERENCE '
    + 'DIFFERENCE DIFFERENCE DIFFERENCE DIFFERENCE DIFFERENCE DIFFERENCE ok');
  const shown = results.map((result) => describeDifferences('x.scenario', result));
  assert.is(shown[1]?.replace(/=[0-9a-f]{8}…/, '=…'), [
    'x.scenario:3: 08:00:00 U1 from 1.1.1.1 requests a',
    '    expected  201 otp_id=* ttl=300 remaining_requests=2',
    '    got       201 otp_id=… ttl=300 remaining_requests=1',
    '    differs   remaining_requests: expected 2, got 1',
  ].join('\n'));
  const rows: [number, RegExp][] = [
    [2, /differs {3}status: expected 200, got 401/],
    [2, /differs {3}success: expected true, got no such member/],
    [3, /differs {3}attempts_remaining: expected no such member, got 1/],
    [4, /differs {3}retry_after_seconds: expected "600", got 600/],
    [5, /differs {3}\[Retry-After\]: expected 600, got 599/],
    [6, /differs {3}\[Retry-After\]: expected no such header, got 599/],
    [7, /differs {3}\[Idempotent-Replayed\]: expected no such header, got true/],
    [8, /differs {3}expected 201 {"otp_id".*, got 201 {"otp_id"/],
    [9, /differs {3}surplus: expected any value, got no such member/],
    [10, /differs {3}expected 3, got 4/],
    [11, /differs {3}expected done, got unknown/],
  ];
  for (const [index, row] of rows) assert.match(shown[index]!, row);
});

test('an event whose code is unknown is not sent, and the others run', async () => {
  const results = await run(
    `08:00:00 ${REQUEST} without a key as $c => ${ISSUED}=2`,
    `08:00:01 ${VERIFY} $c => 200 success=true message=verification_successful`,
    `08:00:02 ${VERIFY} a wrong code => 404 error=otp_not_found`,
    '08:00:03 U1 from 1.1.1.1 asks for the status of $c => 200',
    '08:00:03 U1 from 1.1.1.1 cancels $c => 204',
  );
  assert.is(outcomes(results), 'DIFFERENCE DIFFERENCE ok DIFFERENCE DIFFERENCE');
  const shown = describeDifferences('x', results[1]!);
  assert.match(shown, /got {7}not sent: no message carried the code/);
  for (const result of results.slice(3)) {
    const other = describeDifferences('x', result);
    assert.match(other, /got {7}not sent: no answer announced the code/);
  }
});

test('a token that no answer carried is not sent, and a header is compared with that of an answer',
  async () => {
    const done = '200 success=true message=verification_successful';
    const results = await run(
      `08:00:00 ${REQUEST} as $c => ${ISSUED}=2`,
      `08:00:01 ${VERIFY} $c with key k as $d => ${done} [no Otp-Device]`,
      `08:00:02 ${REQUEST} on device $d => ${ISSUED}=1`,
      '08:00:02 operator revokes U1 $d => done',
      '08:00:02 operator revokes U1 => done',
      `08:00:02 ${VERIFY} $c with key k => ${done} [Content-Length: $d]`,
      `08:00:02 ${VERIFY} $c with key k => ${done} [X-Request-Id: $d]`,
      `08:00:02 ${VERIFY} $c with key k => ${done} [Retry-After: $d]`,
    );
    assert.is(outcomes(results), 'ok ok DIFFERENCE DIFFERENCE ok ok DIFFERENCE DIFFERENCE');
    const shown = results.map((result) => describeDifferences('x', result));
    assert.match(shown[2]!, /got {7}not sent: no answer carried the token/);
    assert.match(shown[3]!, /got {7}no answer carried the token/);
    assert.match(shown[6]!, /differs {3}\[X-Request-Id\]: expected [0-9a-f-]{36}, got [0-9a-f]/);
    assert.match(shown[7]!, /expected that of \$d, which has none, got no such header/);
  });

test('a status and a cancel of an unknown id are compared, also without a body',
  async () => {
    const none = '404 error=not_found message=*';
    const results = await run(
      `08:00:00 U1 from 1.1.1.1 asks for the status of "0a" as $s => ${none} [no Allow]`,
      `08:00:00 U1 from 1.1.1.1 cancels "0a" => ${none}`,
      '08:00:00 U1 from 1.1.1.1 cancels "0a" => the same answer as $s',
      '08:00:00 U1 from 1.1.1.1 cancels "0a" => 204',
      '08:00:01 the channel refuses => done',
      '08:00:01 the channel accepts => done',
    );
    assert.is(outcomes(results), 'ok ok ok DIFFERENCE ok ok');
    const shown = describeDifferences('x', results[3]!);
    assert.match(shown, /status: expected 204, got 404/);
    assert.match(shown, /error: expected no such member, got "not_found"/);
  });

test('the answers of one moment are compared as a multiset', async () => {
  const results = await run(
    `08:00:00 3 times ${REQUEST} => 1 of ${ISSUED}=0, 1 of ${ISSUED}=2, 1 of ${ISSUED}=1`,
    `08:01:00 ${VERIFY} a wrong code => ${WRONG}=1`,
    `and ${VERIFY} a wrong code => ${WRONG}=2`,
    `08:02:00 4 times ${VERIFY} a wrong code => 1 of ${WRONG}=2,`
      + ' 3 of 429 error=too_many_attempts retry_after_seconds=600',
  );
  assert.is(outcomes(results), 'ok ok ok DIFFERENCE');
  const shown = describeDifferences('x', results[3]!);
  assert.match(shown, /status: expected 401, got 429/);
  assert.is(shown.split('expected  ').length, 2, 'only the one that nothing fulfils');
});

test('a narrow expectation gets its answer although a wide one comes first', () => {
  const fits = [[true, true, false], [true, false, false], [false, true, true]];
  assert.equal(assignAnswers(3, (one, answer) => fits[one]![answer]!), [1, 0, 2]);
  const none = [[true, false, false], [true, false, false], [false, false, false]];
  assert.equal(assignAnswers(3, (one, answer) => none[one]![answer]!), [0, 1, 2]);
});

test('the table is aligned and as wide as the terminal', async () => {
  const results = await run(
    `08:00:00.000001 ${REQUEST} with key a-key-that-is-rather-long-indeed => ${ISSUED}=2`,
    `08:00:01 20 times ${REQUEST} => 201`,
  );
  for (const columns of [80, 100, 200]) {
    const rows = [tableHead(columns), ...results.map((result) => tableEvent(result, columns))]
      .join('\n').split('\n');
    assert.ok(rows.every((row) => [...row].length <= columns), rows.join('\n'));
    assert.match(rows.join('\n'), /^08:00:00\.000001 {2}U1 from/m);
    assert.match(rows.join('\n'), / ok$/m);
    assert.match(rows.join('\n'), / DIFFERENCE$/m);
    const starts = rows.filter((row) => row.startsWith('08:')).map((row) => row.search(/201/));
    assert.ok(starts.every((start) => start === rows[0]!.indexOf('expected')), rows.join('\n'));
  }
});

test.after(closeClient);

test.run();
