import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ConfigError } from '../src/config-reader.ts';
import type { Environment } from '../src/config-reader.ts';
import { readConfig, readEnvironment } from '../src/config.ts';
import { DEFAULT_POLICY } from '../src/otp/policy.ts';

const SECRETS = `k1:${randomBytes(32).toString('base64')}`;
const OWN = { DB_HOST: 'db.example', DB_USER: 'otpd', OTP_SECRETS: SECRETS };

function faultsOf(environment: Environment): string {
  try {
    readConfig(environment);
    return '';
  } catch (error) {
    assert.instance(error, ConfigError);
    return (error as Error).message;
  }
}

test('with nothing set: loopback, a private MySQL, the default policy', () => {
  const config = readConfig({ HOME: '/home/u', PATH: '/bin' });
  assert.is(config.host, '127.0.0.1');
  assert.is(config.port, 3000);
  assert.is(config.database, null);
  assert.is(config.secrets, null);
  assert.is(config.local.cacheFolder, '/home/u/.cache/otpd');
  assert.match(config.local.folder, /\/\.otpd$/);
  assert.equal(config.policies.for('login'), DEFAULT_POLICY);
  assert.ok(Object.isFrozen(config));
});

test('an own MySQL, by host or by socket', () => {
  const byHost = readConfig({ ...OWN, DB_PORT: '3307', DB_PASSWORD: ' p ', DB_NAME: 'x' });
  assert.equal(byHost.database, {
    host: 'db.example', socketPath: null, port: 3307, user: 'otpd', password: ' p ', database: 'x',
    tlsCaFile: null,
  });
  const bySocket = readConfig({ DB_SOCKET: '/s', DB_USER: 'u', OTP_SECRETS: SECRETS });
  assert.is(bySocket.database?.socketPath, '/s');
  assert.is(bySocket.database?.host, null);
});

test('an empty variable is not set', () => {
  assert.is(readConfig({ DB_HOST: '', PORT: ' ', OTP_SECRETS: '' }).database, null);
});

/** [environment, what the message says] */
const FAULTS: [Environment, RegExp][] = [
  [{ PORT: '65536' }, /PORT must be a whole number from 0 to 65535/],
  [{ PORT: '80x' }, /PORT must be/],
  [{ PORT: '-1' }, /PORT must be/],
  [{ DB_CONNECTIONS: '0' }, /DB_CONNECTIONS must be a whole number from 1 to 500/],
  [{ ...OWN, DB_SOCKET: '/s' }, /DB_HOST and DB_SOCKET exclude each other/],
  [{ ...OWN, DB_USER: '' }, /DB_USER must be set/],
  [{ ...OWN, DB_NAME: 'a`b' }, /DB_NAME must be/],
  [{ ...OWN, DB_TLS_CA: '/nowhere.pem' }, /DB_TLS_CA names a file that cannot be read \(ENOENT\)/],
  [{ DB_HOST: 'h', DB_USER: 'u' }, /OTP_SECRETS must be set/],
  [{ OTP_SECRETS: 'k:c2hvcnQ=' }, /OTP_SECRETS: entry 1 must have at least 32 bytes/],
  [{ TRUSTED_PROXIES: '0.0.0.0/0' }, /TRUSTED_PROXIES: .*trusts every address/],
  [{ TRUSTED_PROXIES: 'proxy' }, /TRUSTED_PROXIES: .*not an address/],
  [{ POLICY_FILE: '/nowhere.json' }, /POLICY_FILE names a file that cannot be read/],
];

for (const [environment, message] of FAULTS) {
  test(`names the fault: ${message}`, () => assert.match(faultsOf(environment), message));
}

test('names every fault at once, and no secret', () => {
  const short = randomBytes(12).toString('base64');
  const message = faultsOf({
    PORT: 'x', DB_HOST: 'h', DB_NAME: '', TRUSTED_PROXIES: '::/0', OTP_SECRETS: `k:${short}`,
  });
  for (const name of ['PORT', 'DB_USER', 'TRUSTED_PROXIES', 'OTP_SECRETS']) {
    assert.match(message, name);
  }
  assert.not.match(message, short);
});

test('a policy file and a certificate are read; faults come with path and range', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-config-'));
  const path = join(folder, 'policy.json');
  writeFileSync(path, '{"purposes":{"pay":{"code_digits":8}}}');
  const config = readConfig({ ...OWN, POLICY_FILE: path, DB_TLS_CA: path });
  assert.is(config.policies.for('pay').codeDigits, 8);
  assert.is(config.database?.tlsCaFile, path);
  writeFileSync(path, '{"default":{"code_digits":11}}');
  const byAddress = { ...OWN, DB_HOST: '10.0.0.5', DB_TLS_CA: path };
  assert.match(faultsOf(byAddress), /DB_HOST must be a name/);
  assert.match(faultsOf({ POLICY_FILE: path }),
    `POLICY_FILE ${path}: default.code_digits: must be a whole number from 6 to 10`);
  rmSync(folder, { recursive: true });
});

test('a .env file is read, and the process wins over it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-env-'));
  writeFileSync(join(folder, '.env'), 'PORT=4000\nPATH=/of/the/file\nDB_NAME="from file"\n');
  const environment = readEnvironment(folder);
  assert.is(environment.PORT, '4000');
  assert.is(environment.DB_NAME, 'from file');
  assert.is(environment.PATH, process.env.PATH);
  rmSync(folder, { recursive: true });
  assert.is(readEnvironment(folder).PATH, process.env.PATH);
});

test('.env.example names every variable, and is itself a right configuration', () => {
  const text = readFileSync(new URL('../.env.example', import.meta.url), 'utf8');
  const source = readFileSync(new URL('../src/config.ts', import.meta.url), 'utf8');
  const named = [...source.matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, name]) => name!);
  const ofTheMachine = ['HOME', 'PATH', 'XDG_CACHE_HOME'];
  for (const name of new Set(named)) {
    if (!ofTheMachine.includes(name)) assert.match(text, new RegExp(`^#?${name}=`, 'm'), name);
  }
  assert.is(faultsOf(parseEnv(text) as Environment), '');
});

test.run();
