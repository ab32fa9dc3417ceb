/** The configuration: defaults, errors, delivery channels, log settings and the .env file. */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  readConfig as readAll, readEnvironment, readServeConfig as readServe,
} from '../../../../src/app/config/config.ts';
import { findClearText } from '../../../../src/app/config/database.ts';
import type { ServeConfig } from '../../../../src/app/config/config.ts';
import { ConfigError, SECRET_FILES } from '../../../../src/app/config/env-reader.ts';
import type { Environment } from '../../../../src/app/config/env-reader.ts';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import { ROOT } from '../../../harness/program.ts';

const SECRETS = `k1:${randomBytes(32).toString('base64')}`;
const OWN = { DB_HOST: 'db.example', DB_USER: 'otpd', OTP_SECRETS: SECRETS };

const WEBHOOK = { WEBHOOK_URL: 'https://example.com/otp',
  WEBHOOK_SECRETS: `whsec_${randomBytes(32).toString('base64')}` };
const SMS = { SMS_ACCOUNT: 'AC1', SMS_TOKEN: 'token', SMS_SENDER: '+14155550123' };
const EMAIL = { SMTP_URL: 'smtp://smtp.example.com', EMAIL_FROM: 'no-reply@example.com' };

/** Adds the database and the secrets, which most tests are not about. */
function readConfig(environment: Environment) {
  return readAll({ ...OWN, ...environment });
}

function readServeConfig(environment: Environment) {
  return readServe({ ...OWN, ...environment });
}

function messageOf(environment: Environment, read: typeof readAll = readConfig): string {
  try {
    read(environment);
    return '';
  } catch (error) {
    assert.instance(error, ConfigError);
    return (error as Error).message;
  }
}

test('a configuration with only a database has the default of every variable', () => {
  const config = readAll(OWN);
  assert.is(config.host, '127.0.0.1');
  assert.is(config.port, 3000);
  assert.is(config.apiKeys, null);
  assert.equal(config.policies.for('login'), DEFAULT_POLICY);
  assert.ok(Object.isFrozen(config));
});

test('DB_HOST and DB_SOCKET each name a database', () => {
  const byHost = readConfig({ ...OWN, DB_PORT: '3307', DB_PASSWORD: ' p ', DB_NAME: 'x' });
  assert.equal(byHost.servers[0], {
    host: 'db.example', socketPath: null, port: 3307, user: 'otpd', password: ' p ', database: 'x',
    tls: 'off', tlsCaFile: null,
  });
  const bySocket = readAll({ DB_SOCKET: '/s', DB_USER: 'u', OTP_SECRETS: SECRETS });
  assert.is(bySocket.servers[0]!.socketPath, '/s');
  assert.is(bySocket.servers[0]!.host, null);
});

/** [DB_HOST, the hosts and ports that it names] */
const HOST_LISTS: [string, [string, number][]][] = [
  ['db.example', [['db.example', 3310]]],
  ['a:3307', [['a', 3307]]],
  ['a:3306, b , 10.0.0.5:1', [['a', 3306], ['b', 3310], ['10.0.0.5', 1]]],
  ['::1', [['::1', 3310]]],
  ['[::1],[2001:db8::2]:65535', [['::1', 3310], ['2001:db8::2', 65535]]],
  ['a:3306,a:3307', [['a', 3306], ['a', 3307]]],
  ['my_db', [['my_db', 3310]]],
];

for (const [list, hosts] of HOST_LISTS) {
  test(`DB_HOST=${list} names ${hosts.length} hosts`, () => {
    const { servers } = readConfig({ ...OWN, DB_PORT: '3310', DB_HOST: list });
    assert.equal(servers.map(({ host, port }) => [host, port]), hosts);
    assert.ok(Object.isFrozen(servers) && servers.every(Object.isFrozen));
  });
}

/** [DB_HOST, what is wrong with it, in the order of its parts] */
const WRONG_LISTS: [string, string[]][] = [
  ['a,,b', ['"" is empty; remove a comma']],
  ['a,', ['"" is empty; remove a comma']],
  ['a:0,b:65536,c:x,d:', ['"a:0" has no port from 1 to 65535 after its colon',
    '"b:65536" has no port from 1 to 65535 after its colon',
    '"c:x" has no port from 1 to 65535 after its colon',
    '"d:" has no port from 1 to 65535 after its colon']],
  ['[::1', ['"[::1" is not a host; write name, name:port, 10.0.0.5:port or [::1]:port']],
  ['[10.0.0.5]:3306', ['"[10.0.0.5]:3306" is not a host; write']],
  ['2001:db8::x:3306', ['"2001:db8::x:3306" has no port']],
  ['[]:3306', ['"[]:3306" is not a host; write']],
  ['a b', ['"a b" is not a host; write']],
  ['mysql://a', ['"mysql://a" has no port']],
  ['u@a', ['"u@a" is not a host; write']],
  ['a,b:3310,b,a', ['b port 3310 is named twice', 'a port 3310 is named twice']],
  ['a,:3306,[::1]x,b:99999',
    ['":3306" is not a host', '"[::1]x" is not a host', '"b:99999" has no port']],
];

for (const [list, faults] of WRONG_LISTS) {
  test(`DB_HOST=${list} names every fault at once`, () => {
    const message = messageOf({ ...OWN, DB_PORT: '3310', DB_HOST: list });
    const lines = message.split('\n').slice(1);
    assert.is(lines.length, faults.length, message);
    faults.forEach((fault, index) => {
      assert.is(lines[index]!.slice(0, 11 + fault.length), `  DB_HOST: ${fault}`);
    });
  });
}

test('every host of DB_HOST must be a name where the certificate is verified by name', () => {
  assert.match(messageOf({ ...OWN, DB_HOST: 'a,10.0.0.5,[::1]:1', DB_TLS: 'verify-full' }),
    /DB_HOST must be a name, not an address \(10\.0\.0\.5, ::1\), with DB_TLS=verify-full/);
  assert.is(readConfig({ ...OWN, DB_HOST: 'a,10.0.0.5', DB_TLS: 'require' }).servers.length, 2);
  const { found } = findClearText(readConfig({ ...OWN, DB_HOST: 'localhost,a,b' }).servers)!;
  assert.match(found, 'DB_HOST a, b is not encrypted');
});

test('DB_CONSISTENCY is before or not set', () => {
  assert.is(readConfig(OWN).consistency, null);
  assert.is(readConfig({ ...OWN, DB_CONSISTENCY: 'before' }).consistency, 'before');
  assert.match(messageOf({ ...OWN, DB_CONSISTENCY: 'after' }), 'DB_CONSISTENCY must be before');
});

test('origins, host names and the keep-alive time are validated', () => {
  const none = readConfig({});
  assert.equal([none.keepAliveSeconds, none.allowedOrigins.size, none.adminHosts.size], [75, 0, 0]);
  const set = readConfig({
    HTTP_KEEP_ALIVE_SECONDS: '620', ALLOWED_ORIGINS: 'https://a.example, http://b:1',
    ADMIN_ALLOWED_HOSTS: 'Otpd.internal',
  });
  assert.is(set.keepAliveSeconds, 620);
  assert.equal([...set.allowedOrigins], ['https://a.example', 'http://b:1']);
  assert.equal([...set.adminHosts], ['otpd.internal']);
  assert.is(messageOf({
    HTTP_KEEP_ALIVE_SECONDS: '0', ALLOWED_ORIGINS: 'https://a.example/',
    ADMIN_ALLOWED_HOSTS: 'a:1',
  }), [
    'the configuration is invalid:',
    'HTTP_KEEP_ALIVE_SECONDS must be a whole number from 1 to 7200',
    'ALLOWED_ORIGINS: "https://a.example/" is not an origin; write https://a.example',
    'ADMIN_ALLOWED_HOSTS: "a:1" is not a host name such as otpd.internal, without a port',
  ].join('\n  '));
});

test('only ADMIN_PORT opens the admin listener', () => {
  assert.is(readConfig({}).admin, null);
  assert.is(readConfig({ ADMIN_HOST: '0.0.0.0', ADMIN_PORT: '' }).admin, null);
  assert.equal(readConfig({ ADMIN_PORT: '0' }).admin, { host: '127.0.0.1', port: 0 });
  assert.equal(readConfig({ ADMIN_HOST: '::1', ADMIN_PORT: '9464' }).admin,
    { host: '::1', port: 9464 });
});

test('an empty variable counts as not set', () => {
  assert.is(readConfig({ DB_SOCKET: '', PORT: ' ' }).port, 3000);
});

test('a configuration without a database is one line that names npm start', () => {
  for (const environment of [{}, { DB_HOST: '', DB_SOCKET: ' ', OTP_SECRETS: '' }]) {
    for (const read of [readAll, readServe]) {
      assert.match(messageOf(environment, read),
        /^DB_HOST or DB_SOCKET must be set .*npm start.*$/);
    }
  }
  assert.match(messageOf({ PORT: 'x' }, readAll),
    /^the configuration is invalid:\n {2}DB_HOST or DB_SOCKET must be .*\n {2}PORT must be .*$/);
});

/** [environment, pattern of the message] */
const FAULTS: [Environment, RegExp][] = [
  [{ PORT: '65536' }, /PORT must be a whole number from 0 to 65535/],
  [{ PORT: '80x' }, /PORT must be/],
  [{ PORT: '-1' }, /PORT must be/],
  [{ ADMIN_PORT: '65536' }, /ADMIN_PORT must be a whole number from 0 to 65535/],
  [{ DB_CONNECTIONS: '0' }, /DB_CONNECTIONS must be a whole number from 1 to 500/],
  [{ ...OWN, DB_SOCKET: '/s' }, /DB_HOST and DB_SOCKET exclude each other/],
  [{ ...OWN, DB_USER: '' }, /DB_USER must be set/],
  [{ ...OWN, DB_NAME: 'a`b' }, /DB_NAME must be/],
  [{ ...OWN, DB_TLS_CA: '/nowhere.pem' }, /DB_TLS_CA names a file that cannot be read \(ENOENT\)/],
  [{ OTP_SECRETS: '' }, /OTP_SECRETS must be set/],
  [{ OTP_SECRETS: 'k:c2hvcnQ=' }, /OTP_SECRETS: entry 1 must have at least 32 bytes/],
  [{ TRUSTED_PROXIES: '0.0.0.0/0' }, /TRUSTED_PROXIES: .*trusts every address/],
  [{ TRUSTED_PROXIES: 'proxy' }, /TRUSTED_PROXIES: .*not an address/],
  [{ API_KEYS: ',' }, /API_KEYS: entry 1 must be name:scopes:sha256\n.*entry 2 must be/],
  [{ POLICY_FILE: '/nowhere.json' }, /POLICY_FILE names a file that cannot be read/],
];

for (const [environment, message] of FAULTS) {
  test(`an invalid configuration is reported as ${message}`, () =>
    assert.match(messageOf(environment), message));
}

test('the error names every invalid variable at once, and no secret', () => {
  const short = randomBytes(12).toString('base64');
  const message = messageOf({
    PORT: 'x', DB_USER: '', DB_NAME: '', TRUSTED_PROXIES: '::/0', OTP_SECRETS: `k:${short}`,
  });
  for (const name of ['PORT', 'DB_USER', 'TRUSTED_PROXIES', 'OTP_SECRETS']) {
    assert.match(message, name);
  }
  assert.not.match(message, short);
});

test('the policy file and DB_TLS_CA are read, and errors name path and range', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-config-'));
  const path = join(folder, 'policy.json');
  writeFileSync(path, '{"purposes":{"pay":{"code_digits":8}}}');
  const config = readConfig({ ...OWN, POLICY_FILE: path, DB_TLS_CA: path });
  assert.is(config.policies.for('pay').codeDigits, 8);
  assert.is(config.servers[0]!.tlsCaFile, path);
  writeFileSync(path, '{"default":{"code_digits":11}}');
  const byAddress = { ...OWN, DB_HOST: '10.0.0.5', DB_TLS_CA: path };
  assert.match(messageOf(byAddress), /DB_HOST must be a name.*does not fit the name in a cert/);
  assert.match(messageOf({ POLICY_FILE: path }),
    `POLICY_FILE ${path}: default.code_digits: must be a whole number from 6 to 10`);
  rmSync(folder, { recursive: true });
});

test('DB_TLS and DB_TLS_CA choose how the connection is encrypted', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-config-'));
  const ca = join(folder, 'ca.pem');
  writeFileSync(ca, 'a certificate');
  const tlsOf = (more: Environment) => {
    const { tls, tlsCaFile } = readConfig({ ...OWN, ...more }).servers[0]!;
    return [tls, tlsCaFile];
  };
  assert.equal(tlsOf({}), ['off', null]);
  assert.equal(tlsOf({ DB_TLS_CA: ca }), ['verify-full', ca]);
  for (const DB_TLS of ['off', 'require', 'verify-full']) {
    assert.equal(tlsOf({ DB_TLS }), [DB_TLS, null]);
  }
  for (const DB_TLS of ['verify-ca', 'verify-full']) {
    assert.equal(tlsOf({ DB_TLS, DB_TLS_CA: ca }), [DB_TLS, ca]);
  }
  assert.equal(tlsOf({ DB_TLS: 'verify-ca', DB_TLS_CA: ca, DB_HOST: '10.0.0.5' }),
    ['verify-ca', ca]);
  assert.match(messageOf({ ...OWN, DB_TLS: 'yes' }),
    /DB_TLS must be off or require or verify-ca or verify-full/);
  assert.match(messageOf({ ...OWN, DB_TLS: 'verify-ca' }), /DB_TLS=verify-ca needs DB_TLS_CA/);
  for (const DB_TLS of ['off', 'require']) {
    assert.match(messageOf({ ...OWN, DB_TLS, DB_TLS_CA: ca }),
      `DB_TLS=${DB_TLS} checks no certificate: remove DB_TLS_CA`);
  }
  assert.match(messageOf({ ...OWN, DB_HOST: '::1', DB_TLS: 'verify-full' }),
    /an address does not fit the name in a certificate \(DB_TLS=verify-ca checks/);
  rmSync(folder, { recursive: true });
});

test('only an unencrypted connection that leaves this machine is a warning', () => {
  const warns = (more: Environment): boolean =>
    findClearText(readConfig({ ...OWN, ...more }).servers) !== null;
  for (const DB_HOST of ['db.example', '10.0.0.5', '192.168.1.1', '::2']) {
    assert.ok(warns({ DB_HOST }));
    assert.not.ok(warns({ DB_HOST, DB_TLS: 'require' }));
  }
  for (const DB_HOST of ['localhost', '127.0.0.1', '127.9.9.9', '::1']) {
    assert.not.ok(warns({ DB_HOST }));
  }
  assert.not.ok(warns({ DB_HOST: '', DB_SOCKET: '/s' }));
  const { found, remedy } = findClearText(readConfig(OWN).servers)!;
  assert.match(`${found}; ${remedy}`, /DB_HOST db\.example .*DB_TLS=off.*; set DB_TLS=verify-full/);
});

/** [variable, value, how a configuration shows that it was read] */
const SECRET_VALUES: [keyof typeof SECRET_FILES, string, (config: ServeConfig) => unknown][] = [
  ['DB_PASSWORD', ' p #"\'$x ', ({ servers }) => servers[0]!.password],
  ['OTP_SECRETS', `k2:${randomBytes(32).toString('base64')}`, ({ secrets }) => secrets.current.id],
  ['API_KEYS', `a:read:${'0'.repeat(64)}`, ({ apiKeys }) => apiKeys !== null],
  ['SMS_TOKEN', 'token2', ({ delivery }) => delivery.channels[0]],
  ['SMTP_URL', 'smtp://u:p@smtp2.example.com', ({ delivery }) => delivery.channels[1]],
  ['WEBHOOK_SECRETS', WEBHOOK.WEBHOOK_SECRETS, ({ delivery }) => delivery.channels[2]],
];

test('every secret may come from a file, without one line end at its end', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-secrets-'));
  const path = join(folder, 'secret');
  const all = { ...SMS, ...EMAIL, ...WEBHOOK, DELIVERY: 'sms,email,webhook' };
  assert.equal(SECRET_VALUES.map(([name]) => name), Object.keys(SECRET_FILES));
  for (const [name, value, shown] of SECRET_VALUES) {
    const expected = shown(readServeConfig({ ...all, [name]: value }));
    for (const end of ['', '\n', '\r\n']) {
      writeFileSync(path, value + end);
      const config = readServeConfig({ ...all, [name]: '', [SECRET_FILES[name]]: path });
      assert.equal(shown(config), expected, name);
    }
    assert.is(serveMessageOf({ ...all, [name]: value, [SECRET_FILES[name]]: path }),
      'the configuration is invalid:\n'
      + `  ${name}_FILE and ${name} exclude each other; remove one of them`);
  }
  writeFileSync(path, 'p\n\n');
  assert.is(readConfig({ DB_PASSWORD_FILE: path }).servers[0]!.password, 'p\n');
  rmSync(folder, { recursive: true });
});

test('a file of a secret that cannot be used is one error with its variable and path', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-secrets-'));
  const path = join(folder, 'secret');
  const all = { ...SMS, ...EMAIL, ...WEBHOOK, DELIVERY: 'sms,email,webhook' };
  const rows: [string | Buffer, string][] = [
    ['', 'that is empty'], ['\n', 'that is empty'], [' \r\n', 'that is empty'],
    ['x'.repeat(65_537), 'of more than 65536 bytes'],
    [Buffer.from([0x70, 0xff]), 'that is not UTF-8 text without a byte order mark'],
    ['\ufeffp', 'that is not UTF-8 text without a byte order mark'],
    ['a\0b', 'that is not UTF-8 text without a byte order mark'],
  ];
  for (const name of Object.keys(SECRET_FILES)) {
    const messageFor = (file: string): string =>
      serveMessageOf({ ...all, [name]: '', [`${name}_FILE`]: file });
    const start = `the configuration is invalid:\n  ${name}_FILE names a file`;
    for (const [text, fault] of rows) {
      writeFileSync(path, text);
      assert.is(messageFor(path), `${start} ${fault}: ${path}`);
    }
    assert.is(messageFor(folder), `${start} that cannot be read (EISDIR): ${folder}`);
    assert.is(messageFor('/nowhere'), `${start} that cannot be read (ENOENT): /nowhere`);
    assert.is(messageFor('/dev/zero'), `${start} of more than 65536 bytes: /dev/zero`);
  }
  rmSync(folder, { recursive: true });
});

test('a secret may come from a pipe, and a pipe without a writer does not stop the process', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-secrets-'));
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  spawn('sh', ['-c', '{ printf "a pass"; cat /dev/null; echo word; } > "$0"', path]);
  assert.is(readConfig({ DB_PASSWORD_FILE: path }).servers[0]!.password, 'a password');
  assert.is(messageOf({ DB_PASSWORD_FILE: path }), 'the configuration is invalid:\n'
    + `  DB_PASSWORD_FILE names a file that cannot be read (ETIMEDOUT): ${path}`);
  rmSync(folder, { recursive: true });
});

function serveMessageOf(environment: Environment): string {
  return messageOf(environment, readServeConfig);
}

function channelsOf(environment: Environment): string[] {
  return readServeConfig(environment).delivery.channels.map(({ name }) => name);
}

test('DELIVERY names the channels in order, and the console is the default', () => {
  assert.equal(channelsOf({}), ['console']);
  assert.equal(channelsOf({ DELIVERY: ' ' }), ['console']);
  assert.equal(channelsOf({ ...SMS, ...WEBHOOK, DELIVERY: ' sms, webhook ,console' }),
    ['sms', 'webhook', 'console']);
  assert.equal(channelsOf({ ...EMAIL, DELIVERY: 'email', NODE_ENV: 'production' }), ['email']);
});

test('the names of the proxies in lower case win, and an invalid one is an error', () => {
  const target = new URL('https://gateway.example.com/');
  const proxyOf = (more: Environment) =>
    readServeConfig({ ...SMS, DELIVERY: 'sms', ...more }).delivery.findProxy(target)?.host;
  assert.is(proxyOf({}), undefined);
  assert.is(proxyOf({ HTTPS_PROXY: 'http://a:1' }), 'a:1');
  assert.is(proxyOf({ HTTPS_PROXY: 'http://a:1', https_proxy: 'b:2' }), 'b:2');
  assert.is(proxyOf({ HTTPS_PROXY: 'http://a:1', NO_PROXY: 'example.com' }), undefined);
  assert.is(proxyOf({ HTTPS_PROXY: 'a:1', NO_PROXY: 'example.com', no_proxy: 'x' }), 'a:1');
  const socks = { HTTP_PROXY: 'socks5://proxy' };
  assert.match(serveMessageOf({ ...SMS, DELIVERY: 'sms', ...socks }), 'HTTP_PROXY must be a URL');
  // The variables are not otpd's own, so they must not stop an otpd that uses no proxy.
  for (const DELIVERY of ['console', 'email']) {
    assert.is(serveMessageOf({ ...EMAIL, DELIVERY, ...socks }), '');
  }
});

const WRONG_NAMES = ['mail', 'Console', 'console,console', 'console,', ',', 'console webhook'];

for (const DELIVERY of WRONG_NAMES) {
  test(`DELIVERY=${DELIVERY} is one error that names the channels`, () => {
    assert.is(serveMessageOf({ ...WEBHOOK, DELIVERY }), 'the configuration is invalid:\n'
      + '  DELIVERY must list one or more of console, webhook, sms, email, each once');
  });
}

test('NODE_ENV=production refuses the console', () => {
  const fault = 'the configuration is invalid:\n'
    + '  DELIVERY must be set, and must not list console, with NODE_ENV=production';
  for (const DELIVERY of [undefined, '', 'console', 'webhook,console']) {
    assert.is(serveMessageOf({ ...WEBHOOK, DELIVERY, NODE_ENV: 'production' }), fault);
  }
  assert.is(serveMessageOf({ NODE_ENV: 'development' }), '');
});

/** [variable, invalid value, channel] */
const WRONG_VALUES: [string, string, string][] = [
  ['WEBHOOK_URL', 'http://example.com/', 'webhook'],
  ['WEBHOOK_SECRETS', 'whsec_c2hvcnQ=', 'webhook'],
  ['WEBHOOK_ALLOW_HTTP', 'yes', 'webhook'],
  ['WEBHOOK_CA', '/nowhere.pem', 'webhook'],
  ['SMS_ACCOUNT', 'A/C', 'sms'],
  ['SMS_TOKEN', 'to ken', 'sms'],
  ['SMS_SENDER', '+1', 'sms'],
  ['SMS_BASE_URL', 'http://example.com', 'sms'],
  ['SMS_STATUS_URL', 'http://example.com', 'sms'],
  ['SMTP_URL', 'http://smtp.example.com', 'email'],
  ['EMAIL_FROM', 'nobody', 'email'],
  ['SMTP_CA', '/nowhere.pem', 'email'],
];
const OF_WORDS: [string, string][] = [
  ['MESSAGE_DOMAIN', 'https://x'], ['MESSAGES_LANGUAGE', 'xyzzy'], ['MESSAGES_FOLDER', '/nowhere'],
];

test('one message contains the errors of all channels and of all other variables', () => {
  const wrong = [['PORT', 'x'], ...WRONG_VALUES, ...OF_WORDS];
  const message = serveMessageOf({ ...Object.fromEntries(wrong), DELIVERY: 'webhook,sms,email' });
  const [, ...errors] = message.split('\n  ');
  assert.equal(errors.map((fault) => /^[A-Z_]+/.exec(fault)?.[0]), wrong.map(([name]) => name));
});

test('the variables of a channel outside DELIVERY are not read', () => {
  const all = { ...WEBHOOK, ...SMS, ...EMAIL };
  for (const [name, value, channel] of WRONG_VALUES) {
    const others = ['console', 'webhook', 'sms', 'email'].filter((other) => other !== channel);
    assert.is(serveMessageOf({ ...all, [name]: value, DELIVERY: others.join() }), '');
    assert.match(serveMessageOf({ ...all, [name]: value, DELIVERY: channel }), name);
  }
});

test('a command that sends nothing ignores the delivery variables', () => {
  const wrong = Object.fromEntries([...WRONG_VALUES, ...OF_WORDS, ['DELIVERY', 'mail']]);
  assert.is(messageOf({ ...wrong, NODE_ENV: 'production' }), '');
  assert.not.ok('delivery' in readConfig({}));
});

test('the error names each invalid template and its error', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-words-'));
  writeFileSync(join(folder, 'login.txt'), 'Your code has gone.');
  writeFileSync(join(folder, 'login.html'), '<p>{code} {name}</p>');
  const message = serveMessageOf({ MESSAGES_FOLDER: folder, MESSAGE_DOMAIN: 'example.com' });
  assert.is(message, ['the configuration is invalid:',
    `${folder}/login.html may contain only {code}, {purpose}, {brand}, {lifetime} and {ref},`
      + ' not {name}',
    `${folder}/login.txt must contain {code}`].join('\n  '));
  rmSync(folder, { recursive: true });
});

test('the log settings have defaults, accept their values and refuse others', () => {
  assert.equal(readServeConfig({}).log, { level: 'info', format: null, isRaw: false });
  const set = { LOG_LEVEL: 'error', LOG_FORMAT: 'text', LOG_RAW_IDS: '1' };
  assert.equal(readServeConfig(set).log, { level: 'error', format: 'text', isRaw: true });
  assert.is(serveMessageOf({ LOG_LEVEL: 'debug', LOG_FORMAT: 'xml', LOG_RAW_IDS: 'yes' }),
    ['the configuration is invalid:', 'LOG_LEVEL must be info or warn or error',
      'LOG_FORMAT must be json or text', 'LOG_RAW_IDS must be 0 or 1'].join('\n  '));
});

test('the variables of the process override the .env file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-env-'));
  writeFileSync(join(folder, '.env'), 'PORT=4000\nPATH=/of/the/file\nDB_NAME="from file"\n');
  const environment = readEnvironment(folder);
  assert.is(environment.PORT, '4000');
  assert.is(environment.DB_NAME, 'from file');
  assert.is(environment.PATH, process.env.PATH);
  rmSync(folder, { recursive: true });
  assert.is(readEnvironment(folder).PATH, process.env.PATH);
});

test('.env.example is a valid configuration', () => {
  const text = readFileSync(join(ROOT, '.env.example'), 'utf8');
  assert.is(serveMessageOf(parseEnv(text) as Environment), '');
});

test.run();
