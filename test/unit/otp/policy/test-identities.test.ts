/** Test identities: what a policy file may say of them, whom they cover, and until when. */
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseInstant } from '../../../../src/db/instant.ts';
import { parsePolicies } from '../../../../src/otp/policy/policy-file.ts';
import { findLateEnds } from '../../../../src/otp/policy/test-identities.ts';
import type { TestIdentities } from '../../../../src/otp/policy/test-identities.ts';

const ONE = { user: '+15550100', code: '902817', purposes: ['login'], until: '2026-12-31' };
const END = parseInstant('2027-01-01 00:00:00.000000');

function parse(list: unknown, others: object = {}) {
  return parsePolicies(JSON.stringify({ ...others, test_identities: list }));
}

function errorsOf(list: unknown, others: object = {}): string[] {
  const parsed = parse(list, others);
  return 'errors' in parsed ? parsed.errors : [];
}

function identitiesOf(list: unknown, others: object = {}): TestIdentities {
  const parsed = parse(list, others);
  if ('errors' in parsed) throw new Error(parsed.errors.join('\n'));
  return parsed.policies.testIdentities;
}

test('without test identities nobody is one', () => {
  const parsed = parsePolicies('{}');
  assert.ok('policies' in parsed && parsed.policies.testIdentities.isEmpty);
  assert.ok(identitiesOf([]).isEmpty);
});

test('a test identity has its code in its purposes until the end of its last day in UTC', () => {
  const identities = identitiesOf([ONE, { ...ONE, user: 'u2', purposes: ['a', 'b'] }]);
  const rows: [string, string, number, string | null][] = [
    ['+15550100', 'login', 0, '902817'],
    ['+15550100', 'login', END, '902817'],
    ['+15550100', 'login', END + 1, null],
    ['+15550100', 'pay', 0, null],
    ['+155501000', 'login', 0, null],
    ['+1555010', 'login', 0, null],
    ['u2', 'b', 0, '902817'],
    ['U2', 'b', 0, null],
  ];
  for (const [user, purpose, at, code] of rows) {
    assert.is(identities.codeFor(user, purpose, at), code, `${user} ${purpose} ${at}`);
  }
});

test('a prefix covers every user whose name begins with it, and has at least 4 characters', () => {
  const { user, ...rest } = ONE;
  const identities = identitiesOf([{ ...rest, user_prefix: 'demo' }]);
  assert.is(identities.codeFor('demo', 'login', 0), '902817');
  assert.is(identities.codeFor('demo-7', 'login', 0), '902817');
  assert.is(identities.codeFor('Demo-7', 'login', 0), null);
  for (const short of ['dem', '+15', '👍👍👍']) {
    assert.equal(errorsOf([{ ...rest, user_prefix: short }]),
      ['test_identities[0].user_prefix: must have at least 4 characters']);
  }
  assert.equal(errorsOf([{ ...rest, user_prefix: '👍👍👍👍' }]), []);
});

test('an invalid test identity is an error with its path, and no error quotes a code', () => {
  const user = 'must be a string of 1 to 255 characters without control characters';
  const code = 'must be a string of 6 digits, as code_digits says';
  const until = 'must be the last day, such as 2026-12-31';
  const rows: [object, string[]][] = [
    [{ user: undefined }, [`.user: ${user}`]],
    [{ user: '' }, [`.user: ${user}`]],
    [{ user: 'x'.repeat(256) }, [`.user: ${user}`]],
    [{ user: 'a\n' }, [`.user: ${user}`]],
    [{ user_prefix: 'demo' }, [': must have either user or user_prefix']],
    [{ user: undefined, user_prefix: 7 }, [`.user_prefix: ${user}`]],
    [{ code: undefined }, [`.code: ${code}`]],
    [{ code: 902817 }, [`.code: ${code}`]],
    [{ code: '90281' }, [`.code: ${code}`]],
    [{ code: '9028170' }, [`.code: ${code}`]],
    [{ code: '90281x' }, [`.code: ${code}`]],
    [{ code: '٩٠٢٨١٧' }, [`.code: ${code}`]],
    [{ purposes: undefined }, ['.purposes: must be a list of at least one purpose']],
    [{ purposes: [] }, ['.purposes: must be a list of at least one purpose']],
    [{ purposes: 'login' }, ['.purposes: must be a list of at least one purpose']],
    [{ purposes: ['login', ''] }, ['.purposes[1]: must be a string of 1 to 100 characters without'
      + ' control characters']],
    [{ until: undefined }, [`.until: ${until}`]],
    [{ until: null }, [`.until: ${until}`]],
    [{ until: '2026-02-29' }, [`.until: ${until}`]],
    [{ until: '2026-12-31T00:00:00Z' }, [`.until: ${until}`]],
    [{ Code: '1' }, ['.Code: unknown member; did you mean code?']],
  ];
  for (const [changes, expected] of rows) {
    const errors = errorsOf([{ ...ONE, ...changes }]);
    assert.equal(errors, expected.map((rule) => `test_identities[0]${rule}`),
      JSON.stringify(changes));
    assert.not.match(errors.join(), /90281/);
  }
  assert.equal(errorsOf([7, ONE])[0], 'test_identities[0]: must be an object');
  const many = Array.from({ length: 101 }, (_, at) => ({ ...ONE, user: `${at}` }));
  for (const list of [{}, 'x', many]) {
    assert.equal(errorsOf(list), ['test_identities: must be a list of at most 100 objects']);
  }
});

test('a code has the digits of each purpose, and the purposes are allowed ones', () => {
  const others = { purposes: { pay: { code_digits: 8 } }, allowed_purposes: ['login', 'pay'] };
  const rule = (digits: number) =>
    `test_identities[0].code: must be a string of ${digits} digits, as code_digits says`;
  assert.equal(errorsOf([ONE], others), []);
  assert.equal(errorsOf([{ ...ONE, purposes: ['pay'], code: '00000000' }], others), []);
  assert.equal(errorsOf([{ ...ONE, purposes: ['login', 'pay'] }], others), [rule(8)]);
  assert.equal(errorsOf([{ ...ONE, purposes: ['pay'] }], others), [rule(8)]);
  assert.equal(errorsOf([{ ...ONE, purposes: ['other'] }], others),
    ['test_identities[0].purposes: must be among allowed_purposes']);
});

test('two test identities never cover the same user and purpose', () => {
  const { user, ...rest } = ONE;
  const both = (one: object, other: object) =>
    errorsOf([{ ...rest, ...one }, { ...rest, ...other }]);
  const error = ['test_identities[1]: must have no user and purpose in common with'
    + ' test_identities[0]'];
  assert.equal(both({ user: 'demo1' }, { user: 'demo1' }), error);
  assert.equal(both({ user: 'demo1' }, { user_prefix: 'demo' }), error);
  assert.equal(both({ user_prefix: 'demo' }, { user: 'demo' }), error);
  assert.equal(both({ user_prefix: 'demo' }, { user_prefix: 'demo1' }), error);
  assert.equal(both({ user_prefix: 'demo1' }, { user_prefix: 'demo' }), error);
  assert.equal(both({ user: 'demo1' }, { user: 'demo2' }), []);
  assert.equal(both({ user_prefix: 'demo1' }, { user_prefix: 'demo2' }), []);
  assert.equal(both({ user: 'demo1' }, { user_prefix: 'demo', purposes: ['pay'] }), []);
});

test('the last day is at most 90 days away, and one that has passed is no error', () => {
  const until = (...days: string[]) => identitiesOf(days.map((day, index) =>
    ({ ...ONE, user: `user${index}`, until: day })));
  const now = (time: string) => parseInstant(`2026-01-10 ${time}`);
  const days = until('2026-04-10', '2026-04-11', '2020-01-01');
  for (const time of ['00:00:00.000000', '23:59:59.999999']) {
    assert.equal(findLateEnds(days, now(time)), ['test_identities[1].until: must be at most 90'
      + ' days away; set an earlier day, and renew it when it is near']);
  }
  assert.equal(findLateEnds(days, parseInstant('2026-01-11 00:00:00.000000')), []);
});

test('no way to print a policy shows a code', () => {
  const parsed = parse([ONE]);
  assert.ok('policies' in parsed);
  const shown = inspect(parsed, { depth: null, showHidden: true }) + JSON.stringify(parsed);
  assert.match(shown, /15550100/);
  assert.not.match(shown, /902817/);
});

test.run();
