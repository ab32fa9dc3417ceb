/** The findings of doctor at the bounds of each check. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkClocks } from '../../../../src/app/cli/doctor/check-database.ts';
import {
  checkCapacity, checkDurability, checkGroup, checkServerName, checkSession, checkWritable,
} from '../../../../src/app/cli/doctor/check-server.ts';
import {
  checkDelivery, checkKeyEnds, checkNode, checkSecretFiles, checkSettings,
} from '../../../../src/app/cli/doctor/check-settings.ts';
import { reportFindings } from '../../../../src/app/cli/doctor/doctor.ts';
import { fault, ok, toConnectionFinding, warn } from '../../../../src/app/output.ts';
import type { Finding } from '../../../../src/app/output.ts';
import type { ServerFacts } from '../../../../src/db/checks/inspect.ts';
import { SESSION_VARIABLES } from '../../../../src/db/session.ts';
import { createPolicies, DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { NOW } from '../../otp/fixtures.ts';
import { newSecretsText, secretsOf } from '../../../harness/service.ts';

const MEGABYTE = 1024 * 1024;

function factsWith(changes: Partial<ServerFacts> = {}): ServerFacts {
  return {
    flushLogAtCommit: 1,
    hasBinlog: true,
    syncBinlog: 1,
    bufferPoolBytes: 128 * MEGABYTE,
    connectionsMax: 151,
    userConnectionsMax: 0,
    packetBytesMax: 64 * MEGABYTE,
    session: SESSION_VARIABLES,
    account: "'otpd'@'%'",
    ...changes,
  };
}

function levels(findings: readonly Finding[]): string[] {
  return findings.map(({ level }) => level);
}

/** [@@version, @@version_comment, level, finding] */
const VERSIONS: [string, string, Finding['level'], RegExp][] = [
  ['9.7.4', 'MySQL Community Server - GPL', 'ok', /MySQL 9\.7\.4/],
  ['8.4.0', 'Source distribution', 'ok', /MySQL 8\.4\.0/],
  ['8.0.45-36', 'Percona Server (GPL)', 'warn', /is out of support/],
  ['8.3.0', '', 'warn', /is out of support/],
  ['8.0.19', '', 'warn', /is out of support/],
  ['8.0.18', '', 'fault', /MySQL 8\.0\.18; otpd needs 8\.0\.19 or later/],
  ['5.7.44', '', 'fault', /needs 8\.0\.19/],
  ['11.4.2-MariaDB-ubu2404', 'mariadb.org binary distribution', 'fault', /MariaDB.*not MySQL/],
  ['10.11.6', 'MariaDB Server', 'fault', /MariaDB/],
];

for (const [version, comment, level, text] of VERSIONS) {
  test(`doctor finds MySQL ${version} ${comment}: ${level}`, () => {
    const finding = checkServerName({ version, comment });
    assert.is(finding.level, level);
    assert.match(finding.found, text);
    assert.is(finding.remedy === null, level === 'ok');
  });
}

test('durability needs a flushed InnoDB log, and a synced binlog where there is one', () => {
  assert.equal(levels(checkDurability(factsWith())), ['ok']);
  assert.equal(levels(checkDurability(factsWith({ hasBinlog: false, syncBinlog: 0 }))), ['ok']);
  for (const flushLogAtCommit of [0, 2]) {
    assert.match(checkDurability(factsWith({ flushLogAtCommit }))[0]!.found,
      `innodb_flush_log_at_trx_commit is ${flushLogAtCommit}`);
  }
  const [binlog] = checkDurability(factsWith({ syncBinlog: 0 }));
  assert.equal([binlog!.level, binlog!.remedy], ['fault', 'SET PERSIST sync_binlog = 1']);
  assert.equal(levels(checkDurability(factsWith({ flushLogAtCommit: 2, syncBinlog: 100 }))),
    ['fault', 'fault']);
});

test('a session variable with another value is a fault; the order of SQL modes is none', () => {
  const reordered = SESSION_VARIABLES.sql_mode!.split(',').reverse().join();
  const session = { ...SESSION_VARIABLES, sql_mode: reordered };
  assert.equal(levels(checkSession(factsWith({ session }))), ['ok']);
  const wrong = { ...SESSION_VARIABLES, transaction_isolation: 'REPEATABLE-READ',
    sql_mode: 'ANSI_QUOTES', time_zone: 'SYSTEM', character_set_client: 'gbk' };
  const findings = checkSession(factsWith({ session: wrong }));
  assert.equal(levels(findings), ['fault', 'fault', 'fault', 'fault']);
  assert.match(findings.map(({ found }) => found).join('\n'),
    /time_zone is SYSTEM[^]*sql_mode is ANSI_QUOTES[^]*transaction_isolation is REPEATABLE-READ/);
  assert.match(findings.map(({ found }) => found).join('\n'),
    'character_set_client is gbk although otpd sets utf8mb4');
});

test('each obstacle to writing is a fault with its name and its remedy', () => {
  assert.equal(levels(checkWritable([])), ['ok']);
  const findings = checkWritable([
    { check: 'read_only', found: 'super_read_only is on', remedy: 'go to the primary' },
    { check: 'binlog_format', found: 'binlog_format is STATEMENT', remedy: 'use ROW' },
  ]);
  assert.equal(findings, [fault('writable', 'super_read_only is on', 'go to the primary'),
    fault('binlog_format', 'binlog_format is STATEMENT', 'use ROW')]);
});

test('a group with several primaries is a warning', () => {
  assert.equal(checkGroup(false), []);
  const [group] = checkGroup(true);
  assert.is(group!.level, 'warn');
  assert.match(group!.found, /^group_replication_single_primary_mode is OFF/);
});

test('capacity covers the connections, the tables and the largest batch', () => {
  const room = (changes: Partial<ServerFacts>, bytes = 0, workers = 1) =>
    levels(checkCapacity(factsWith(changes), bytes, { connections: 16, workers }));
  assert.equal(room({}), ['ok', 'ok', 'ok']);
  assert.equal(room({ connectionsMax: 20 })[0], 'ok');
  assert.equal(room({ connectionsMax: 19 })[0], 'warn');
  assert.equal(room({ connectionsMax: 16 })[0], 'warn');
  assert.equal(room({ connectionsMax: 15 })[0], 'fault');
  assert.equal(room({}, 0, 10)[0], 'fault');
  const accountLimit = (userConnectionsMax: number, workers = 1) =>
    room({ userConnectionsMax }, 0, workers);
  assert.equal(accountLimit(18), ['ok', 'ok', 'ok']);
  assert.equal(accountLimit(17), ['ok', 'warn', 'ok', 'ok']);
  assert.equal(accountLimit(4 * 16 + 7, 4), ['ok', 'ok', 'ok']);
  assert.equal(accountLimit(4 * 16 + 6, 4), ['ok', 'warn', 'ok', 'ok']);
  assert.equal(room({}, 128 * MEGABYTE)[1], 'ok');
  assert.equal(room({}, 128 * MEGABYTE + 1)[1], 'warn');
  assert.equal(room({ packetBytesMax: 4 * MEGABYTE })[2], 'ok');
  assert.equal(room({ packetBytesMax: 4 * MEGABYTE - 1 })[2], 'fault');
});

test('clocks may differ by 2 s beyond the duration of the query', () => {
  const SECOND = 1_000_000;
  const skewed = (skew: number, took = 0) => checkClocks(NOW, NOW + skew, NOW + took);
  for (const skew of [0, 2 * SECOND, -2 * SECOND]) assert.is(skewed(skew).level, 'ok');
  assert.is(skewed(2 * SECOND + 1).level, 'warn');
  assert.is(skewed(-2 * SECOND - 1).level, 'warn');
  assert.is(skewed(5 * SECOND, 5 * SECOND).level, 'ok');
  assert.match(skewed(3 * SECOND).found, '3.0 s ahead of this machine');
  assert.match(skewed(-3 * SECOND, SECOND).found, '3.0 s behind this machine');
});

/** [version, time of the machine, level, finding] */
const NODES: [string, string, Finding['level'], string][] = [
  ['20.20.2', '2026-04-29T23:59:59.999Z', 'ok', 'Node.js 20.20.2, supported until 2026-04-30'],
  ['20.20.2', '2026-04-30T00:00:00Z', 'warn', 'Node.js 20.20.2 is out of support since 2026-04-30'],
  ['22.23.3', '2027-04-29T23:59:59.999Z', 'ok', 'Node.js 22.23.3, supported until 2027-04-30'],
  ['22.23.3', '2027-04-30T00:00:00Z', 'warn', 'Node.js 22.23.3 is out of support since 2027-04-30'],
  ['24.21.0', '2028-04-29T23:59:59.999Z', 'ok', 'Node.js 24.21.0, supported until 2028-04-30'],
  ['24.21.0', '2028-04-30T00:00:00Z', 'warn', 'Node.js 24.21.0 is out of support since 2028-04-30'],
  ['18.20.8', '2024-01-01T00:00:00Z', 'warn', 'Node.js 18.20.8 is out of support'],
  ['21.0.0', '2024-01-01T00:00:00Z', 'warn', 'Node.js 21.0.0 is out of support'],
  ['25.9.0', '2026-01-01T00:00:00Z', 'warn', 'Node.js 25.9.0 is out of support'],
  ['26.1.0', '2026-11-01T00:00:00Z', 'ok', 'Node.js 26.1.0'],
  ['27.0.0', '2027-11-01T00:00:00Z', 'ok', 'Node.js 27.0.0'],
];

for (const [version, time, level, found] of NODES) {
  test(`doctor finds Node.js ${version} at ${time}: ${level}`, () => {
    const finding = checkNode(version, Date.parse(time) * 1000);
    const remedy = level === 'ok' ? null : 'run otpd with Node.js 24';
    assert.equal(finding, { level, check: 'node', found, remedy });
  });
}

const SETTINGS = {
  host: '127.0.0.1', adminHost: null, hasApiKeys: true, trustsNoProxy: true,
  secrets: secretsOf(newSecretsText()), policyFile: null, policies: createPolicies(),
};

/** [settings, check, level, finding, remedy] */
const WEAK: [object, string, Finding['level'], RegExp, RegExp][] = [
  [{ hasApiKeys: false, host: '0.0.0.0' }, 'callers', 'fault', /HOST is 0\.0\.0\.0/, /API_KEYS/],
  [{ hasApiKeys: false, host: '::' }, 'callers', 'fault', /HOST is ::/, /API_KEYS/],
  [{ hasApiKeys: false, host: '10.0.0.5', trustsNoProxy: false }, 'callers', 'fault',
    /without API_KEYS/, /npm run -s key/],
  [{ hasApiKeys: false, host: 'otp.internal' }, 'callers', 'fault', /HOST is otp/, /HOST/],
  [{ hasApiKeys: false }, 'callers', 'warn', /count as one client IP/, /TRUSTED_PROXIES.*API_KEYS/],
  [{ hasApiKeys: false, host: '::1' }, 'callers', 'warn', /one client IP/, /TRUSTED_PROXIES/],
  [{ trustsNoProxy: false }, 'callers', 'warn', /TRUSTED_PROXIES names no/, /X-Client-IP/],
  [{ adminHost: '0.0.0.0' }, 'admin', 'fault', /ADMIN_HOST is 0\.0\.0\.0/, /ADMIN_HOST/],
  [{ adminHost: '10.0.0.5' }, 'admin', 'fault', /ADMIN_HOST is 10/, /private network/],
];

for (const [changes, check, level, found, remedy] of WEAK) {
  test(`doctor finds ${JSON.stringify(changes)}: ${level}`, () => {
    const finding = checkSettings({ ...SETTINGS, ...changes }).find((one) => one.check === check)!;
    assert.is(finding.level, level);
    assert.match(finding.found, found);
    assert.match(finding.remedy!, remedy);
  });
}

test('keys, a trusted proxy on loopback and an admin listener on loopback are well', () => {
  const well = [
    {}, { host: '0.0.0.0' }, { hasApiKeys: false, trustsNoProxy: false },
    { hasApiKeys: false, trustsNoProxy: false, host: 'localhost', adminHost: '127.1.2.3' },
  ];
  for (const changes of well) {
    assert.ok(checkSettings({ ...SETTINGS, ...changes }).every(({ level }) => level === 'ok'),
      JSON.stringify(changes));
  }
});

test('a secret file that others can read is a fault with its mode', () => {
  const files = [0o600, 0o400, 0o100600, 0o640, 0o604, 0o100644].map((mode) =>
    ({ name: 'TLS_KEY', path: '/key.pem', mode }));
  const findings = checkSecretFiles(files);
  assert.equal(findings.map(({ level, remedy }) => [level, remedy]),
    Array(3).fill(['fault', 'chmod 600 /key.pem']));
  assert.match(findings[2]!.found, /^TLS_KEY \/key\.pem has mode 644/);
});

test('sms and email without an enforced daily or destination limit are a fault', () => {
  const spendingOf = (names: string[], changes: object, more = new Map<string, object>()) => {
    const base = { ...DEFAULT_POLICY, ...changes };
    const policies = createPolicies(base,
      new Map([...more].map(([name, own]) => [name, { ...base, ...own }])));
    return checkDelivery(names.map((name) => ({ name, url: null })), policies, null)
      .filter(({ check }) => check === 'spending').map(({ level }) => level);
  };
  assert.equal(spendingOf(['sms'], {}), ['fault']);
  assert.equal(spendingOf(['webhook', 'email'], {}), ['fault']);
  assert.equal(spendingOf(['webhook', 'console'], {}), []);
  assert.equal(spendingOf(['sms'], { userDailyLimit: 10 }), []);
  assert.equal(spendingOf(['sms'], { destinationLimit: 10 }), []);
  const shadow = new Set(['user_daily']);
  assert.equal(spendingOf(['sms'], { userDailyLimit: 10, shadow }), ['fault']);
  const one = new Map([['login', { userDailyLimit: 10 }]]);
  assert.equal(spendingOf(['sms'], {}, one), ['fault'], 'other purposes have none');
  const none = new Map([['login', { userDailyLimit: Infinity }]]);
  assert.equal(spendingOf(['sms'], { userDailyLimit: 10 }, none), ['fault'], 'login has none');
});

test('findings count and name the secrets and contain none', () => {
  const text = newSecretsText();
  const findings = checkSettings({ ...SETTINGS, secrets: secretsOf(text), policyFile: '/p.json' });
  assert.equal(levels(findings), ['ok', 'ok', 'ok']);
  assert.is(findings[1]!.found, '1 configured; new codes use test');
  assert.is(findings[2]!.found, 'read from /p.json; 60 wrong codes per client IP and hour; '
    + '600 wrong codes per IPv6 /48 and hour');
});

test('the policy finding lists the extra limits and warns about shadow mode', () => {
  const policyFinding = (changes: object) => {
    const policies = createPolicies({ ...DEFAULT_POLICY, ...changes },
      new Map([['pay', { ...DEFAULT_POLICY, wrongCodesLimit: 5 }]]));
    return checkSettings({ ...SETTINGS, policyFile: '/p.json', policies })[2]!;
  };
  const numbers = {
    userDailyLimit: 10, destinationLimit: 200, wrongCodesLimit: null, wrongCodesNetLimit: null,
  };
  const found = 'read from /p.json; 10 codes per user and day; 200 codes per destination and hour';
  assert.equal(policyFinding(numbers), ok('policy', found));
  assert.is(policyFinding({ ...numbers, deviceDays: 90 }).found,
    `${found}; 90 days of trust in a device`);
  const shadowed = policyFinding({ ...numbers, shadow: new Set(['user', 'destination']) });
  assert.is(shadowed.level, 'warn');
  assert.is(shadowed.found, `${found}; in shadow mode, so nothing is refused: user, destination`);
});

const BOUNDED = createPolicies({ ...DEFAULT_POLICY, userDailyLimit: 20 });

test('the console and an unencrypted webhook are warnings, without the path of the URL', () => {
  const webhook = { name: 'webhook', url: new URL('http://hooks.internal/token') };
  const [clear, ...others] = checkDelivery([webhook], BOUNDED, null);
  assert.equal(others, []);
  assert.is(clear!.found, 'webhook sends codes unencrypted to hooks.internal');
  const sms = { name: 'sms', url: null };
  const both = [sms, { name: 'console', url: null }];
  assert.equal(levels(checkDelivery(both, BOUNDED, null)), ['warn']);
  assert.equal(levels(checkDelivery([sms], BOUNDED, null)), ['ok']);
  assert.equal(levels(checkDelivery([sms], BOUNDED, 'it needs something')), ['fault']);
});

test('the worst finding decides the outcome', () => {
  const calm = [ok('a', 'well')];
  const { lines } = reportFindings(calm);
  assert.equal(lines, ['ok     a              well', 'no faults, no warnings']);
  assert.equal([reportFindings(calm).isDone, reportFindings(calm).data.outcome], [true, 'ok']);
  const warned = reportFindings([...calm, warn('b', 'so so', 'look')]);
  assert.equal([warned.isDone, warned.data.outcome], [true, 'warn']);
  const failed = reportFindings([warn('b', 'so so', 'look'), fault('c', 'broken', 'mend it')]);
  assert.equal([failed.isDone, failed.data.outcome], [false, 'fault']);
  const [, ...last] = failed.lines;
  assert.equal(last, ['fault  c              broken; mend it', '1 fault, 1 warning']);
});

test('an API key that ends within 14 days, or has ended, is a warning with its name', () => {
  const DAY = 86_400_000_000;
  const findingsFor = (endsAt: number | null) =>
    checkKeyEnds([{ name: 'app1', scopes: ['read'], purposes: null, endsAt }], NOW);
  assert.equal([null, NOW + 14 * DAY + 1].map(findingsFor), [[], []]);
  assert.match(findingsFor(NOW + 14 * DAY)[0]!.found, /^the key of app1 ends at 20/);
  assert.match(findingsFor(NOW)[0]!.found, /^the key of app1 ended at 20/);
  assert.equal(levels(findingsFor(NOW)), ['warn']);
});

test('a bug is no finding about the database', () => {
  assert.throws(() => toConnectionFinding(new TypeError('x')), /x/);
});

test.run();
