/** The scenario language: what it accepts, and how it reports errors with their places. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseScenario } from './parse-scenario.ts';
import { ANY, ScenarioError } from './scenario.ts';
import { splitTokens } from './tokens.ts';

const ISSUED = '201 otp_id=* ttl=300 remaining_requests=2';

function errorsOf(...lines: string[]): string {
  try {
    parseScenario('x.scenario', lines.join('\n'));
  } catch (error) {
    assert.instance(error, ScenarioError);
    return (error as Error).message;
  }
  return 'no error';
}

/** The error of a file whose only event is this one, after a date and a request as $c. */
function errorOf(line: string): string {
  const request = `08:00:00 U1 from 1.1.1.1 requests a as $c => ${ISSUED}`;
  return errorsOf('date 2026-01-05', request, line);
}

test('a whole file is parsed', () => {
  const { policy, processes, moments } = parseScenario('x.scenario', [
    '# A comment.', '', 'date 2026-01-05', 'processes 2', 'policy lock_seconds 1',
    'policy of "new password" code_digits 8', 'policy require_otp_id true',
    `08:00:00.5  U1 from 1.1.1.1 requests login as $c  => ${ISSUED} [Retry-After: 1] [no X-Y]`,
    '  and  2 times "u 1" from ::1 verifies login with a wrong code with quoted key k'
      + ' on process 2 => 1 of 401 error=e, 1 of 200 success=true n=null t="300" s="*"',
    'date 2026-01-06', '00:00:00 operator unlocks U1 login => done',
  ].join('\n'));
  assert.equal(JSON.parse(policy), {
    default: { lock_seconds: 1, require_otp_id: true },
    purposes: { 'new password': { code_digits: 8 } },
  });
  assert.is(processes, 2);
  assert.equal(moments.map(({ at }) => at),
    ['2026-01-05 08:00:00.500000', '2026-01-06 00:00:00.000000']);
  const [first, second] = moments[0]!.steps;
  assert.equal(first?.action, {
    kind: 'request', userId: 'U1', purpose: 'login', address: '1.1.1.1', options: {}, devices: [],
    key: { kind: 'fresh' },
  });
  assert.equal(first?.expected[0]?.headers,
    [{ name: 'Retry-After', value: '1' }, { name: 'X-Y', value: null }]);
  assert.equal(second?.action, {
    kind: 'verify', userId: 'u 1', purpose: 'login', address: '::1', code: { kind: 'wrong' },
    otpId: null, devices: [], key: { kind: 'wire', text: '"k"' },
  });
  assert.is(second?.process, 2);
  const members = second?.expected.map(({ answer }) => answer.kind === 'body' && answer.members);
  assert.equal(members, [new Map([['error', 'e']]),
    new Map<string, unknown>([['success', true], ['n', null], ['t', '300'], ['s', '*']])]);
  const answer = first?.expected[0]?.answer;
  assert.is(answer?.kind === 'body' && answer.members.get('otp_id'), ANY);
});

test('events on one code and on the channel are parsed', () => {
  const { moments } = parseScenario('x.scenario', [
    'date 2026-01-05', `08:00:00 U1 from 1.1.1.1 requests a as $c => ${ISSUED}`,
    '08:00:01 U1 from ::1 asks for the status of $c as $s => 200 created_at=2026-01-05T08:00:00Z',
    'and 2 times someone from ::1 asks for the status of "0a" with key k on process 1 => 404',
    'and the from 1.1.1.1 cancels $c => 204', 'and deliveries from 1.1.1.1 cancels "x" => 404',
    '08:00:02 the channel refuses => done', '08:00:02 the channel fails => done',
    '08:00:02 the channel accepts => done', '08:00:02 deliveries settle => done',
  ].join('\n'));
  const actions = moments.flatMap(({ steps }) => steps.map(({ action }) => action)).slice(1);
  const captured = { kind: 'captured', name: '$c' };
  const none = { kind: 'none' };
  assert.equal(actions, [
    { kind: 'status', address: '::1', otp: captured, key: none },
    { kind: 'status', address: '::1', otp: { kind: 'literal', text: '0a' },
      key: { kind: 'wire', text: 'k' } },
    { kind: 'cancel', address: '1.1.1.1', otp: captured, key: none },
    { kind: 'cancel', address: '1.1.1.1', otp: { kind: 'literal', text: 'x' }, key: none },
    { kind: 'channel', sendResult: 'refused' }, { kind: 'channel', sendResult: 'retry' },
    { kind: 'channel', sendResult: 'accepted' }, { kind: 'settle' },
  ]);
  const answer = moments[1]?.steps[0]?.expected[0]?.answer;
  assert.equal(answer?.kind === 'body' && answer.members,
    new Map([['created_at', '2026-01-05T08:00:00Z']]));
});

test('the caller of an event and its address are parsed', () => {
  const event = 'from 1.1.1.1 requests a';
  const { apiClients, destinationCallers, moments } = parseScenario('x.scenario', [
    'callers app1  app-2+to', 'date 2026-01-05', `08:00:00 U1 ${event} as $c => ${ISSUED}`,
    `08:00:01 U1 ${event} as caller app1 as $d => ${ISSUED}`,
    `08:00:02 U1 ${event} without an address with key k as caller app-2 => ${ISSUED}`,
  ].join('\n'));
  assert.equal([apiClients, destinationCallers], [['app1', 'app-2'], ['app-2']]);
  const steps = moments.flatMap((moment) => moment.steps);
  assert.equal(steps.map((step) => [step.apiClient, step.namesAddress, step.capture]),
    [[null, true, '$c'], ['app1', true, '$d'], ['app-2', false, null]]);
  const without = parseScenario('x.scenario', `date 2026-01-05\n08:00:00 U1 ${event} => 201`);
  assert.equal(without.apiClients, []);
});

test('the optional members of a request are parsed', () => {
  const event = '08:00:00 U1 from 1.1.1.1 requests a';
  const { moments } = parseScenario('x.scenario', ['date 2026-01-05',
    `${event} to "a b" with key k locale de as $c channel "" => ${ISSUED}`,
    `${event} => ${ISSUED}`].join('\n'));
  const actions = moments.flatMap(({ steps }) => steps.map(({ action }) => action));
  assert.equal(actions.map((action) => action.kind === 'request' && action.options),
    [{ to: 'a b', locale: 'de', channel: '' }, {}]);
});

test('the devices of an event, and what an operator revokes, are parsed', () => {
  const event = 'U1 from 1.1.1.1';
  const done = '200 success=true message=* [Otp-Device: *]';
  const { moments } = parseScenario('x.scenario', ['date 2026-01-05',
    `08:00:00 ${event} requests a as $c => ${ISSUED}`,
    `08:00:01 ${event} verifies a with $c with key k as $d => ${done}`,
    `08:00:01 ${event} verifies a with $c with key k => ${done} [Otp-Device: $d]`,
    `08:00:02 ${event} requests a on device $d with key k as $e => ${ISSUED}`,
    `08:00:03 ${event} verifies a with $e on device "x, y", $d,"" as $f => ${done}`,
    '08:00:04 operator revokes U1 $d => done', '08:00:04 operator revokes "U 1" => done',
  ].join('\n'));
  const steps = moments.flatMap((moment) => moment.steps);
  const captured = { kind: 'captured', name: '$d' };
  assert.equal(steps.flatMap(({ action }) => 'devices' in action ? [action.devices] : []), [
    [], [], [], [captured],
    [{ kind: 'literal', text: 'x, y' }, captured, { kind: 'literal', text: '' }],
  ]);
  assert.equal(steps.slice(5).map(({ action }) => action), [
    { kind: 'revoke', userId: 'U1', device: '$d' }, { kind: 'revoke', userId: 'U 1', device: null },
  ]);
  assert.equal(steps[2]?.expected[0]?.headers[1],
    { name: 'Otp-Device', value: { capture: '$d' } });
});

test('a line is split into words', () => {
  const tokens = splitTokens(`a "b \\u00fa\\"" 'c "d" => e' [F: "g"], h="i j" k`);
  assert.equal(tokens.map(({ kind, text }) => [kind, text]), [
    ['plain', 'a'], ['quoted', 'b ú"'], ['body', 'c "d" => e'], ['header', 'F: "g"'],
    ['comma', ','], ['plain', 'h="i j"'], ['plain', 'k'],
  ]);
});

test('test identities are parsed into the policy, and checked as there', () => {
  const setup = ['test identity T1 with "123456" for login until 2026-01-05',
    'test prefix "demo 1" with "00000000" for pay until 2026-02-05'];
  const event = 'U1 from 1.1.1.1 requests a';
  const lines = ['date 2026-01-05', 'policy of pay code_digits 8', ...setup];
  const { policy } = parseScenario('x.scenario', [...lines, `08:00:00 ${event} => ${ISSUED}`]
    .join('\n'));
  assert.equal(JSON.parse(policy).test_identities, [
    { user: 'T1', code: '123456', purposes: ['login'], until: '2026-01-05' },
    { user_prefix: 'demo 1', code: '00000000', purposes: ['pay'], until: '2026-02-05' },
  ]);
  const rows: [string, RegExp][] = [
    ['test T1', /found "T1"; allowed here: "identity" or "prefix"/],
    ['test identity T1 with 123456', /found "123456"; allowed here: a code/],
    ['test identity T1 with "1" for login until 2026-01-05', /\.code: must be a string of 6 digi/],
    ['test prefix T1 with "123456" for login until soon', /_prefix: must .* 4 .*until: must be/],
    ['test identity T1 with "123456" for login until 2026-01-05 !', /"!"; allowed here: nothing/],
  ];
  for (const [line, message] of rows) {
    assert.throws(() => parseScenario('x.scenario', line), message, line);
  }
});

test('an error in an event is reported with its place and what is allowed', () => {
  const rows: [string, RegExp][] = [
    ['8:00:00 U1 from 1.1.1.1 requests a => 201', /x.scenario:3: found "8:00:00"; allowed here: a/],
    ['08:00:00 U1 from 1.1.1.1 requests a', /needs "=> what is expected"/],
    ['08:00:00 U1 requests a => 201', /found "requests"; allowed here: "from"/],
    ['08:00:00 U1 from home requests a => 201', /found "home"; allowed here: an IP address/],
    ['08:00:00 U1 from 1.1.1 requests a => 201', /"1.1.1" is not an IP address/],
    ['08:00:00 U1 from 1.1.1.1 asks a => 201', /found "asks"; allowed here: "requests", "verif/],
    ['08:00:00 U1 from 1.1.1.1 asks for the status => 200', /found "asks"; allowed here: "requ/],
    ['08:00:00 U1 from 1.1.1.1 asks for the status of c => 200', /found "c"; .*: \$NAME or an id/],
    ['08:00:00 U1 from 1.1.1.1 asks for the status of $d => 200', /no request .* is "as \$d"/],
    ['and U1 from 1.1.1.1 asks for the status of $c => 200', /at an earlier moment is "as \$c"/],
    ['08:00:00 U1 from 1.1.1.1 cancels => 204', /found the end; allowed here: \$NAME or an id/],
    ['08:00:00 U1 from 1.1.1.1 cancels $d => 204', /no request .* is "as \$d"/],
    ['08:00:00 U1 from 1.1.1.1 cancels "../a" => 204', /"..\/a" is no id of letters and digits/],
    ['08:00:00 U1 from 1.1.1.1 cancels "" => 204', /"" is no id of letters and digits/],
    ['08:00:00 the channel hesitates => done', /found "hesitates"; .*"accepts", "refuses" or "fa/],
    ['08:00:00 the channel refuses U1 => done', /found "U1"; allowed here: nothing more/],
    ['08:00:00 deliveries end => done', /found "end"; allowed here: "from"/],
    ['and the channel fails => done', /"the channel fails" stands alone/],
    ['and deliveries settle => done', /"deliveries settle" stands alone/],
    ['08:00:00 U1 from 1.1.1.1 requests a twice => 201', /found "twice"; allowed here: each once:/],
    ['08:00:00 U1 from 1.1.1.1 requests a with key => 201', /found the end; allowed here: a key/],
    ['08:00:00 U1 from 1.1.1.1 requests a without a key with key k => 201', /found "with"; allo/],
    ['08:00:00 U1 from 1.1.1.1 verifies a => 200', /found the end; allowed here: "with"/],
    ['08:00:00 U1 from 1.1.1.1 verifies a with 123456 => 200', /found "123456"; .* in "quotes"/],
    ['08:00:00 U1 from 1.1.1.1 verifies a with $d => 200', /no request .* is "as \$d"/],
    ['and U1 from 1.1.1.1 verifies a with $c => 200', /at an earlier moment is "as \$c"/],
    ['08:00:00 U1 from 1.1.1.1 requests a as $c => 201', /\$c is named twice/],
    ['08:00:00 2 times U1 from 1.1.1.1 requests a as $d => 201', /\$d cannot name 2 answers/],
    ['08:00:00 201 times U1 from 1.1.1.1 requests a => 201', /201 times; allowed: .* 2 to 200/],
    ['08:00:00 U1 from 1.1.1.1 requests a on process 2 => 201', /process 2, but there are only 1/],
    ['08:00:00 U1 from 1.1.1.1 posts \'{}\' to /otp/request => 400', /only "someone" posts/],
    ['08:00:00 "U1 from 1.1.1.1 requests a => 201', /unclosed quote or bracket: "U1/],
    ['08:00:00 "\\U1" from 1.1.1.1 requests a => 201', /not a quoted text: "\\U1"/],
    ['08:00:00 U1 from 1.1.1.1 requests a with otp_id of $c => 201', /only an event that verifies/],
    ['08:00:00 U1 from 1.1.1.1 verifies a with $c with otp_id of $d => 200', /no request .*\$d"/],
    ['08:00:00 U1 from 1.1.1.1 verifies a with $c with otp_id $c => 200', /found "with"; allowed/],
    ['08:00:01 U1 from 1.1.1.1 requests a on device $c => 201', /no verification .* is "as \$c"/],
    ['08:00:01 U1 from 1.1.1.1 requests a on device d => 201', /found "d"; allowed here: \$NAME/],
    ['08:00:01 U1 from 1.1.1.1 requests a on device "", => 201', /found the end; allowed here: \$/],
    ['08:00:01 U1 from 1.1.1.1 requests a on device "" on device "" => 201', /found "on"; allowed/],
    ['08:00:01 U1 from 1.1.1.1 cancels $c on device "" => 204', /requests or verifies is "on devi/],
    ['08:00:01 operator revokes U1 $c => done', /no verification .* is "as \$c"/],
    ['08:00:01 operator revokes U1 login => done', /found "login"; allowed here: \$NAME or the en/],
    ['08:00:01 operator revokes U1 => unknown', /found "unknown"; allowed here: done/],
    ['08:00:01 U1 from 1.1.1.1 requests a => 201 [X-Y: $d]', /no line before is "as \$d"/],
    ['08:00:00 U1 from 1.1.1.1 requests a to b to c => 201', /found "to"; allowed/],
    ['08:00:00 U1 from 1.1.1.1 requests a locale => 201', /allowed here: a value of "locale"/],
    ['08:00:00 U1 from 1.1.1.1 verifies a with $c to b => 200', /only an event that requests/],
    ['08:00:00 U1 from 1.1.1.1 requests a as caller b => 201', /no "callers" line names b/],
    ['08:00:00 U1 from 1.1.1.1 requests a as caller "b" => 201', /found "b"; allowed here: a call/],
    ['08:00:00 U1 from 1.1.1.1 requests a without an address => 201', /only they name addresses/],
    ['07:59:59.999999 U1 from 1.1.1.1 requests a => 201', /time never goes back/],
    ['and operator unlocks U1 a => done', /"operator unlocks U1 a" stands alone/],
    ['policy lock_seconds 1', /"policy" must stand before the first event/],
  ];
  for (const [line, error] of rows) assert.match(errorOf(line), error, line);
});

test('an error in an expectation is reported', () => {
  const event = '08:00:00 U1 from 1.1.1.1 requests a';
  const rows: [string, RegExp][] = [
    [`${event} => fine`, /found "fine"; allowed here: a status such as 201, or "the same answer/],
    [`${event} => 201 otp_id`, /found "otp_id"; allowed here: NAME=VALUE or \[Header: value\]/],
    [`${event} => 201 ttl=1 ttl=2`, /ttl is expected twice/],
    [`${event} => 201 [Retry-After]`, /found \[Retry-After\]; allowed here: \[Header: value\]/],
    [`${event} => 201 [Retry-After: 1] ttl=300`, /found "ttl=300"; allowed here: nothing more/],
    [`${event} => the same answer as $d`, /no line before is "as \$d"/],
    ['08:00:00 3 times U1 from 1.1.1.1 requests a => 1 of 201, 1 of 429', /3 answers, but 2 are/],
    ['08:00:00 operator unlocks U1 a b => done', /found "b"; allowed here: nothing more/],
    ['08:00:00 operator unlocks => done', /found the end; allowed here: a user/],
    ['08:00:00 operator unlocks U1 a => 200', /found "200"; allowed here: done or unknown/],
    ['08:00:00 the channel accepts => unknown', /found "unknown"; allowed here: done/],
    ['08:00:00 deliveries settle => 200', /found "200"; allowed here: done/],
    ['08:00:00 messages sent so far => many', /found "many"; allowed here: a number of messages/],
  ];
  for (const [line, error] of rows) assert.match(errorOf(line), error, line);
});

test('all errors in the setup of a file are reported together', () => {
  const event = '08:00:00 U1 from 1.1.1.1 requests a => 201';
  const errors = errorsOf('processes 9', 'policy lock_second 1', 'policy lock_seconds 0',
    'policy of a', 'date 2026-02-30', event, 'date 2026-01-05', event,
    'date 2026-01-04', 'whenever');
  const rows = [
    /^x.scenario:1: found "9"; allowed here: a number from 1 to 4$/m,
    /^x.scenario:2: default.lock_second: unknown member; did you mean lock_seconds\?$/m,
    /^x.scenario:3: default.lock_seconds: must be a whole number from 1 to 86400$/m,
    /^x.scenario:4: found the end; allowed here: the name of a number$/m,
    /^x.scenario:5: found "2026-02-30"; allowed here: a day such as 2026-01-05$/m,
    /^x.scenario:6: a "date" line must stand before the first event$/m,
    /^x.scenario:9: time never goes back$/m,
    /^x.scenario:10: found "whenever"; allowed here: a "# comment", "date"/m,
  ];
  for (const row of rows) assert.match(errors, row);
  assert.is(errors.split('\n').length, rows.length, errors);
  assert.is(errorsOf('# nothing'), 'x.scenario:1: no event');
  for (const names of ['', ' a b a', ' a:read', ' a, b', ` ${'a'.repeat(33)}`]) {
    const error = errorsOf(`callers${names}`);
    assert.match(error, /^x.scenario:1: found ".*"; allowed here: names such as app1 app2/);
  }
  assert.match(errorOf('callers a'), /"callers" must stand before the first event/);
  assert.match(errorsOf('date 2026-01-05', 'and U1 from 1.1.1.1 requests a => 201'),
    /"and" needs an event before it/);
});

test.run();
