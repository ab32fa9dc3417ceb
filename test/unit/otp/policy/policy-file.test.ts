import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parsePolicies } from '../../../../src/otp/policy/policy-file.ts';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';

function policiesOf(value: unknown) {
  const parsed = parsePolicies(JSON.stringify(value));
  if ('errors' in parsed) throw new Error(parsed.errors.join('; '));
  return parsed.policies;
}

function errorsOf(text: string): string[] {
  const parsed = parsePolicies(text);
  return 'errors' in parsed ? parsed.errors : [];
}

test('an empty file gives the default policy', () => {
  assert.equal(policiesOf({}).for('login'), DEFAULT_POLICY);
  assert.equal(policiesOf({}).default, DEFAULT_POLICY);
});

test('a purpose inherits what it does not set', () => {
  const policies = policiesOf({
    default: { user_limit: 5, lifetime_seconds: 120 },
    purposes: { payment: { code_digits: 8, user_limit: 2 } },
  });
  assert.equal(policies.for('login'), { ...DEFAULT_POLICY, userLimit: 5, lifetimeSeconds: 120 });
  assert.equal(policies.for('payment'), {
    ...DEFAULT_POLICY, userLimit: 2, lifetimeSeconds: 120, codeDigits: 8,
  });
});

test('a label is a text for all languages, one for each, or none', () => {
  const labelsOf = (label: unknown, purpose = 'login') => [...policiesOf({
    default: { label: { en: 'x' } }, purposes: { login: { label }, other: { user_limit: 2 } },
  }).for(purpose).labels];
  assert.equal(labelsOf('sign-in'), [['*', 'sign-in']]);
  assert.equal(labelsOf({ 'en': 'a', 'pt-BR': 'ł 👍' }), [['en', 'a'], ['pt-br', 'ł 👍']]);
  assert.equal(labelsOf({}), []);
  assert.equal(labelsOf(null), []);
  for (const purpose of ['other', 'unknown']) {
    assert.equal(labelsOf('sign-in', purpose), [['en', 'x']]);
  }
  assert.equal(labelsOf('x'.repeat(60)), [['*', 'x'.repeat(60)]]);
});

test('an invalid label is an error with its path', () => {
  const rule = 'must be a string of 1 to 60 characters without control characters';
  const errorsOfLabel = (label: unknown) => errorsOf(JSON.stringify({ default: { label } }));
  for (const label of ['', ' ', 'x'.repeat(61), 'a\nb', 'a\u0085', '\ud800', 7, true]) {
    assert.equal(errorsOfLabel(label), [`default.label: ${rule}`]);
    assert.equal(errorsOfLabel({ de: label }), [`default.label.de: ${rule}`]);
  }
  assert.equal(errorsOfLabel(['x']), [`default.label: ${rule}`]);
  assert.equal(errorsOfLabel({ de: null, german: 'x' }), [
    `default.label.de: ${rule}`,
    'default.label.german: must be a language tag such as de or pt-BR',
  ]);
  assert.equal(errorsOfLabel({ 'pt-BR': 'x', 'pt-br': 'y' }),
    ['default.label.pt-br: must occur once, in any case']);
});

/** The bounds in docs/policy.md: [member, lowest, highest]. */
const BOUNDS: [string, number, number][] = [
  ['code_digits', 6, 10],
  ['lifetime_seconds', 30, 600],
  ['user_limit', 1, 1000],
  ['address_limit', 1, 100_000],
  ['wrong_attempts', 1, 10],
  ['lock_seconds', 1, 86_400],
  ['wrong_attempts_until_unlock', 3, 100],
  ['key_retention_seconds', 3_600, 604_800],
];

/** Limits that may be null: [member, highest]. */
const OPTIONAL: [string, number][] = [
  ['net_limit', 1_000_000],
  ['recipient_limit', 1000],
  ['user_daily_limit', 100_000],
  ['destination_limit', 10_000_000],
  ['wrong_codes_limit', 1_000_000],
  ['wrong_codes_net_limit', 1_000_000],
];

for (const [member, highest] of OPTIONAL) {
  test(`${member} is null or a number from 1 to ${highest}`, () => {
    for (const value of [1, highest, null]) {
      assert.equal(errorsOf(JSON.stringify({ default: { [member]: value } })), []);
    }
    for (const value of [0, highest + 1, 1.5, '1', true]) {
      assert.equal(errorsOf(JSON.stringify({ default: { [member]: value } })), [
        `default.${member}: must be a whole number from 1 to ${highest}`,
      ]);
    }
  });
}

test('a limit of one purpose counts for all; null removes an inherited limit', () => {
  const policies = policiesOf({
    default: { user_daily_limit: 9, wrong_codes_limit: null },
    purposes: { pay: { wrong_codes_limit: 5, user_daily_limit: null } },
  });
  const of = (purpose: string) => {
    const { userDailyLimit, wrongCodesLimit, destinationLimit } = policies.for(purpose);
    return [userDailyLimit, wrongCodesLimit, destinationLimit];
  };
  assert.equal(of('pay'), [Infinity, 5, null]);
  assert.equal(of('login'), [9, Infinity, null]);
});

test('net_limit is 16 times address_limit, also of one purpose, unless it is set', () => {
  const netLimits = (text: object) => {
    const policies = policiesOf(text);
    return [policies.default.netLimit, policies.for('pay').netLimit];
  };
  assert.equal(netLimits({}), [128, 128]);
  assert.equal(netLimits({ default: { address_limit: 100_000 } }), [1_600_000, 1_600_000]);
  assert.equal(netLimits({ purposes: { pay: { address_limit: 3 } } }), [128, 48]);
  assert.equal(netLimits({ default: { net_limit: 9 }, purposes: { pay: { address_limit: 3 } } }),
    [9, 9]);
  assert.equal(netLimits({ purposes: { pay: { net_limit: 7 } } }), [128, 7]);
  assert.equal(netLimits({ purposes: { pay: { net_limit: null } } }), [128, Infinity]);
  assert.equal(netLimits({ default: { net_limit: null } }), [null, null]);
});

test('the limits of wrong codes follow address_limit unless they are set', () => {
  const limitsOf = (text: object, purpose = 'login') => {
    const { wrongCodesLimit, wrongCodesNetLimit } = policiesOf(text).for(purpose);
    return [wrongCodesLimit, wrongCodesNetLimit];
  };
  assert.equal(limitsOf({}), [60, 600]);
  assert.equal(limitsOf({ default: { address_limit: 1 } }), [60, 600]);
  assert.equal(limitsOf({ default: { address_limit: 9 } }), [67, 670]);
  assert.equal(limitsOf({ default: { address_limit: 100 } }), [750, 7500]);
  assert.equal(limitsOf({ purposes: { pay: { address_limit: 100 } } }, 'pay'), [750, 7500]);
  assert.equal(limitsOf({ default: { address_limit: 100, wrong_codes_limit: 5 } }), [5, 50]);
  assert.equal(limitsOf({ default: { wrong_codes_limit: null } }), [null, null]);
  assert.equal(limitsOf({ default: { wrong_codes_net_limit: null } }), [60, null]);
});

test('net_limit is in shadow with address_limit, unless it is set', () => {
  const shadowOf = (text: object) => [...policiesOf({ default: text }).default.shadow].sort();
  const address_limit = { limit: 8, shadow: true };
  assert.equal(shadowOf({ address_limit }), ['address', 'net48']);
  assert.equal(shadowOf({ address_limit, net_limit: 128 }), ['address']);
  assert.equal(shadowOf({ net_limit: { limit: 128, shadow: true } }), ['net48']);
  const policies = policiesOf({
    default: { address_limit }, purposes: { pay: { address_limit: 9 } },
  });
  assert.equal([...policies.for('pay').shadow], []);
});

test('destination_digits are the same for all purposes', () => {
  assert.is(policiesOf({ default: { destination_digits: 15 } }).for('x').destinationDigits, 15);
  const text = JSON.stringify({
    default: { destination_digits: 16 }, purposes: { pay: { destination_digits: 4 } },
  });
  assert.equal(errorsOf(text), [
    'default.destination_digits: must be a whole number from 1 to 15',
    'purposes.pay.destination_digits: must be set in default, because all purposes share it',
  ]);
});

test('a purpose inherits the shadow mode of a limit with the limit', () => {
  const policies = policiesOf({
    default: { user_limit: { limit: 5, shadow: true }, address_limit: { limit: 6 } },
    purposes: { pay: { user_limit: 4 }, reset: { wrong_codes_limit: { limit: 2, shadow: true } } },
  });
  const of = (purpose: string) => [...policies.for(purpose).shadow].sort();
  assert.equal([policies.default.userLimit, policies.default.addressLimit], [5, 6]);
  assert.equal(of('login'), ['device', 'user']);
  assert.equal([policies.for('pay').userLimit, of('pay')], [4, []]);
  assert.equal([policies.for('reset').userLimit, of('reset')],
    [5, ['device', 'user', 'wrong_codes', 'wrong_codes_net']]);
});

test('every error in a limit with shadow mode is reported', () => {
  const text = JSON.stringify({ default: {
    user_limit: { shadow: true }, address_limit: { limit: 0, shadow: 1, of: 2 },
    wrong_attempts: { limit: 3, shadow: true }, wrong_codes_limit: [3],
  } });
  assert.equal(errorsOf(text), [
    'default.user_limit.limit: must be a whole number from 1 to 1000',
    'default.address_limit.of: unknown member',
    'default.address_limit.shadow: must be true or false',
    'default.address_limit.limit: must be a whole number from 1 to 100000',
    'default.wrong_attempts: must be a whole number from 1 to 10',
    'default.wrong_codes_limit: must be an object',
    'default.wrong_codes_limit.limit: must be a whole number from 1 to 1000000',
  ]);
});

for (const [member, lowest, highest] of BOUNDS) {
  test(`${member} is a number from ${lowest} to ${highest}`, () => {
    for (const value of [lowest, highest]) {
      assert.equal(errorsOf(JSON.stringify({ default: { [member]: value } })), []);
    }
    for (const value of [lowest - 1, highest + 1, lowest + 0.5, String(lowest), null]) {
      assert.equal(errorsOf(JSON.stringify({ default: { [member]: value } })), [
        `default.${member}: must be a whole number from ${lowest} to ${highest}`,
      ]);
    }
  });
}

test('the wrong attempts of an account cannot be set for one purpose, and apply to all', () => {
  const member = 'wrong_attempts_until_unlock';
  assert.equal(errorsOf(JSON.stringify({ purposes: { p: { [member]: 5 } } })), [
    `purposes.p.${member}: must be set in default, because all purposes share it`,
  ]);
  const policies = policiesOf({ default: { [member]: 5 }, purposes: { p: { user_limit: 1 } } });
  assert.equal(['p', 'q'].map((purpose) => policies.for(purpose).wrongAttemptsUntilUnlock), [5, 5]);
});

test('require_otp_id is true or false, of all purposes or of one', () => {
  const policies = policiesOf({ default: { require_otp_id: true },
    purposes: { p: { require_otp_id: false }, q: { user_limit: 1 } } });
  assert.equal(['p', 'q', 'r'].map((purpose) => policies.for(purpose).requiresOtpId),
    [false, true, true]);
  assert.is(policiesOf({}).default.requiresOtpId, false);
  for (const value of [1, 'true', null, {}]) {
    assert.equal(errorsOf(JSON.stringify({ purposes: { p: { require_otp_id: value } } })),
      ['purposes.p.require_otp_id: must be true or false']);
  }
});

test('allowed_purposes allows the listed purposes, and without it every purpose is allowed', () => {
  assert.ok(policiesOf({}).allows('login'));
  const allowed_purposes = ['login', 'ü'.repeat(100)];
  const policies = policiesOf({ allowed_purposes, purposes: { login: { user_limit: 1 } } });
  const asked = ['login', 'ü'.repeat(100), 'Login', 'login ', ''];
  assert.equal(asked.map(policies.allows), [true, true, false, false, false]);
});

test('an invalid allowed_purposes is an error, and so is a policy for a purpose not in it', () => {
  const list = 'allowed_purposes: must be a list of at least one purpose';
  const purpose = ': must be a string of 1 to 100 characters without control characters';
  for (const value of [[], null, 'login', { login: true }]) {
    assert.equal(errorsOf(JSON.stringify({ allowed_purposes: value })), [list]);
  }
  const text = JSON.stringify({
    allowed_purposes: ['login', '', 7, 'a'.repeat(101), 'a\n'], purposes: { pay: {} },
  });
  assert.equal(errorsOf(text), [
    ...[1, 2, 3, 4].map((index) => `allowed_purposes[${index}]${purpose}`),
    'purposes.pay: must be one of allowed_purposes',
  ]);
});

test('a member that occurs twice is an error at any depth', () => {
  const cases: [string, string][] = [
    ['{"default":{"user_limit":3,"user_limit":5}}', 'default.user_limit'],
    ['{"default":{},"default":{"user_limit":5}}', 'default'],
    ['{"purposes":{"p":{"user_limit":{"limit":3,"limit" :\n5}}}}', 'purposes.p.user_limit.limit'],
    ['{"purposes":{"p":{},"\\u0070":{}}}', 'purposes.p'],
  ];
  for (const [text, path] of cases) {
    assert.equal(errorsOf(text), [`${path}: must occur once`]);
  }
  assert.equal(errorsOf('{"purposes":{"a":{"user_limit":3},"b":{"user_limit":3}},'
    + '"allowed_purposes":["a","b"]}'), []);
});

/** [what the file has, the path of the unknown member, the member that was meant]. */
const MISSPELLED: readonly [object, string, string][] = [
  [{ purpose: {} }, 'purpose', 'purposes'],
  [{ default: { lifetime_second: 60 } }, 'default.lifetime_second', 'lifetime_seconds'],
  [{ default: { lifetimeSeconds: 60 } }, 'default.lifetimeSeconds', 'lifetime_seconds'],
  [{ default: { labels: 'x' } }, 'default.labels', 'label'],
  [{ purposes: { pay: { require_otpid: true } } }, 'purposes.pay.require_otpid', 'require_otp_id'],
  [{ default: { user_limit: { limit: 3, shadows: true } } }, 'default.user_limit.shadows',
    'shadow'],
];

for (const [file, path, meant] of MISSPELLED) {
  test(`${path} is an error that names ${meant}`, () => {
    assert.equal(errorsOf(JSON.stringify(file)),
      [`${path}: unknown member; did you mean ${meant}?`]);
  });
}

test('every error is reported at once', () => {
  const text = JSON.stringify({
    defaults: {}, default: { ttl: 1, user_limit: 0 }, purposes: { login: [], pay: { x: 1 } },
  });
  assert.equal(errorsOf(text), [
    'defaults: unknown member; did you mean default?',
    'default.ttl: unknown member',
    'default.user_limit: must be a whole number from 1 to 1000',
    'purposes.login: must be an object',
    'purposes.pay.x: unknown member',
  ]);
  assert.equal(errorsOf('{'), ['is not JSON (line 1, column 2)']);
  assert.equal(errorsOf('{\n "default": {},\n}'), ['is not JSON (line 3, column 1)']);
  assert.equal(errorsOf('{"default":secret}'), ['is not JSON']);
  assert.equal(errorsOf(' \n'), ['is empty; {} is the default policy']);
  for (const name of ['device_days', 'label', 'require_otp_id']) {
    assert.equal(errorsOf(JSON.stringify({ [name]: 1 })),
      [`${name}: must be a member of default, or of a purpose in purposes`]);
  }
  assert.equal(errorsOf('[]'), ['the file: must be an object']);
});

test.run();
