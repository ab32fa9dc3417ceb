import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { remarksOnEnvFile, remarksOnNames } from '../../../../src/app/config/remarks.ts';

/** [name in the environment, the variable that it resembles; null: none]. */
const NAMES: readonly [string, string | null][] = [
  ['DELIVRY', 'DELIVERY'], ['DELIVERYS', 'DELIVERY'], ['delivery', 'DELIVERY'],
  ['DB_HSOT', 'DB_HOST'], ['DB_PASS', 'DB_PASSWORD'], ['DB_USERNAME', 'DB_USER'],
  ['DBPASSWORD', 'DB_PASSWORD'], ['OTP_SECRET', 'OTP_SECRETS'], ['otp_secrets', 'OTP_SECRETS'],
  ['PROT', 'PORT'], ['API_KEY', 'API_KEYS'], ['TRUSTED_PROXY', 'TRUSTED_PROXIES'],
  ['TRUSTED_PROXYS', 'TRUSTED_PROXIES'], ['WEBHOOK_SECRET', 'WEBHOOK_SECRETS'],
  ['SMTP_URI', 'SMTP_URL'], ['LOGLEVEL', 'LOG_LEVEL'], ['MESSAGE_FOLDER', 'MESSAGES_FOLDER'],
  ['TLS_CERTS', 'TLS_CERT'], ['WORKER', 'WORKERS'],
  ['PORT', null], ['SMS_TOKEN', null], ['WEBHOOK_CA', null], ['NODE_ENV', null],
  ['HOME', null], ['HOSTNAME', null], ['PATH', null], ['PWD', null], ['USER', null],
  ['MYSQL_PORT', null], ['KUBERNETES_SERVICE_HOST', null], ['KUBERNETES_PORT', null],
  ['npm_config_user_agent', null], ['npm_package_name', null], ['DB_HOST_REPLICA', null],
  ['LC_ALL', null], ['TERM', null], ['SHLVL', null], ['_', null], ['DATA_FOLDER', null],
];

for (const [name, meant] of NAMES) {
  test(`${name} ${meant === null ? 'causes no remark' : `is remarked on as ${meant}`}`, () => {
    assert.equal(remarksOnNames([name]), meant === null ? []
      : [{ found: `"${name}" is not a variable of otpd`, remedy: `did you mean ${meant}?` }]);
  });
}

test('a character of a name that cannot be seen is shown', () => {
  for (const [hidden, shown] of [['\u200b', '\\u200b'], ['\u00a0', '\\u00a0']] as const) {
    assert.equal(remarksOnNames([`${hidden}DB_PASSWORD`]), [{
      found: `"${shown}DB_PASSWORD" is not a variable of otpd`,
      remedy: 'did you mean DB_PASSWORD?',
    }]);
    assert.equal(remarksOnEnvFile(`DB_PASSWORD=a\n${hidden}DB_PASSWORD=b`), [{
      found: 'line 2 of .env is ignored', remedy: 'write NAME=VALUE or # COMMENT',
    }]);
  }
});

/** The line numbers that the remarks on a file name. */
function linesOf(text: string): number[] {
  return remarksOnEnvFile(text).map(({ found }) => Number(/^line (\d+) of/.exec(found)?.[1] ?? 0));
}

test('a line of .env that gives another value than it shows is named, without the value', () => {
  const differing = [
    'DB_PASSWORD=a#b', 'DB_PASSWORD="a\\nb"', "DB_PASSWORD='it''s'", 'DB_PASSWORD="a"b',
    'DB_PASSWORD=#secret',
  ];
  for (const line of differing) {
    assert.equal(remarksOnEnvFile(`HOST=x\n${line}`), [{
      found: 'line 2 of .env does not give DB_PASSWORD the value that it shows',
      remedy: 'put the value in single quotes',
    }], line);
  }
  const same = [
    "DB_PASSWORD='a#b'", 'DB_PASSWORD="a#b"', "DB_PASSWORD='a\\nb'", 'DB_PASSWORD=a # comment',
    "DB_PASSWORD='a' # comment", 'export DB_PASSWORD=a', ' DB_PASSWORD = a b ', 'DB_PASSWORD=',
    'DB_PASSWORD=${HOME}$x', "DB_PASSWORD=a'b", '# a comment', '   ', 'DB_PASSWORD=a=b==',
  ];
  for (const line of same) assert.equal(linesOf(line), [], line);
});

test('a repeated name, a line without an assignment and a byte order mark are named', () => {
  assert.equal(linesOf('PORT=1\nHOST=a\r\nPORT=2\n'), [3]);
  assert.equal(linesOf('PORT 1\n\nHOST=a'), [1]);
  assert.equal(linesOf('\ufeffPORT=1\nHOST=a'), [0]);
  assert.match(remarksOnEnvFile('\ufeffPORT=1')[0]!.found, /byte order mark/);
});

test('a quoted value may have several lines', () => {
  assert.equal(linesOf('A="one\nPORT=1\nthree"\nPORT=2'), []);
  assert.equal(linesOf('A="one\nB=a#b'), [1, 2]);
});

test.run();
