/** The parsers of version lines, lists of apt and output of apt-get, case by case. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkVersion, parseVersionLine } from '../../src/db/checks/mysql-version.ts';
import {
  aptConfiguration, aptFiles, aptSource, chooseMirrors, parseDeb822Sources, parseDistribution,
  parseOneLineSources,
} from '../../tools/mysql/fetch/apt.ts';
import { parseProgress, parseUris } from '../../tools/mysql/fetch/download.ts';

const UBUNTU = '/usr/sbin/mysqld  Ver 8.0.39-0ubuntu0.24.04.2 for Linux on x86_64 ((Ubuntu))';
const MARIADB = 'mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)';
const PERCONA = 'mysqld  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL), Release 28)';

const versions: [line: string, kind: string | undefined, text: string | undefined][] = [
  [UBUNTU, 'mysql', '8.0.39-0ubuntu0.24.04.2'],
  ['/r/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))', 'mysql', '9.7.4-2'],
  [PERCONA, 'mysql', '8.0.36-28'],
  ['mysqld  Ver 8.4.6 for macos15 on arm64 (Homebrew)', 'mysql', '8.4.6'],
  [MARIADB, 'other', '10.11.6-MariaDB-0+deb12u1'],
  ['mariadbd from 11.8.3-MariaDB', 'other', 'of unknown version'],
  ['', undefined, undefined],
  ['mysqld: error while loading shared libraries: libaio.so.1', undefined, undefined],
];

for (const [line, kind, text] of versions) {
  test(`the version line is parsed: ${line || '(empty)'}`, () => {
    const parsed = parseVersionLine(line);
    assert.is(parsed?.kind, kind);
    assert.is(parsed?.text, text);
  });
}

const checks: [line: string, usable: boolean, reason: RegExp][] = [
  ['Ver 8.0.18 for Linux', false, /is MySQL 8\.0\.18; otpd needs 8\.0\.19/],
  ['Ver 5.7.44-log for Linux', false, /is MySQL 5\.7\.44-log/],
  ['Ver 8.0.19 for Linux', true, /^$/],
  ['Ver 10.0.0 for Linux', true, /^$/],
  [MARIADB, false, /is MariaDB 10\.11\.6/],
  ['hello', false, /reports no MySQL version/],
];

for (const [line, usable, reason] of checks) {
  test(`the version is checked: ${line}`, () => {
    const result = checkVersion(line);
    assert.is(result.usable, usable);
    assert.match(result.usable ? '' : result.reason, reason);
  });
}

const systems: [text: string, kind: string | undefined, codename: string | undefined][] = [
  ['ID=debian\nVERSION_CODENAME=bookworm\n', 'debian', 'bookworm'],
  ['NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n', 'ubuntu', 'noble'],
  ['ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble',
    'ubuntu', 'noble'],
  ['ID="debian"\n', 'debian', ''],
  ['ID=fedora\nID_LIKE="rhel"\n', undefined, undefined],
  ['', undefined, undefined],
];

for (const [text, kind, codename] of systems) {
  test(`the distribution is parsed: ${text.split('\n')[0]}`, () => {
    const distribution = parseDistribution(text);
    assert.is(distribution?.kind, kind);
    assert.is(distribution?.codename, codename);
  });
}

test('one-line lists are parsed: options, comments, sources of source code', () => {
  const sources = parseOneLineSources([
    '# deb http://a.example/debian bookworm main',
    'deb-src http://a.example/debian bookworm main',
    '  deb [ arch=amd64 signed-by=/k/debian-archive-keyring.gpg ] '
      + 'http://b.example/debian sid main x # y',
    'deb\thttp://c.example/debian\tbookworm-updates\tmain contrib',
    'deb cdrom:[Debian]/ bookworm main',
    'nonsense',
  ].join('\n'));
  assert.equal(sources.slice(0, 2), [
    {
      uri: 'http://b.example/debian', suite: 'sid', components: ['main', 'x'],
      signedBy: '/k/debian-archive-keyring.gpg',
    },
    {
      uri: 'http://c.example/debian', suite: 'bookworm-updates', components: ['main', 'contrib'],
      signedBy: '',
    },
  ]);
  assert.equal(chooseMirrors(sources.slice(2), { kind: 'debian', codename: 'bookworm' }), []);
});

test('deb822 lists are parsed: several suites, comments, disabled and source entries', () => {
  const sources = parseDeb822Sources([
    'Types: deb deb-src',
    '# a comment',
    'URIs: http://a.example/debian http://b.example/debian',
    'Suites: bookworm',
    '  bookworm-updates',
    'Components: main',
    'Signed-By: /k/debian-archive-keyring.gpg',
    '',
    'Enabled: no',
    'Types: deb',
    'URIs: http://c.example/debian',
    'Suites: bookworm',
    'Components: main',
    ' ',
    'Types: deb-src',
    'URIs: http://d.example/debian',
    'Suites: bookworm',
    'Components: main',
  ].join('\n'));
  assert.equal(sources.map(({ uri, suite }) => `${uri} ${suite}`), [
    'http://a.example/debian bookworm',
    'http://a.example/debian bookworm-updates',
    'http://b.example/debian bookworm',
    'http://b.example/debian bookworm-updates',
  ]);
  assert.is(sources[0]?.signedBy, '/k/debian-archive-keyring.gpg');
});

test('the mirror is the one of the main archive, not of others', () => {
  const archive = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const rows = [
    ['https://x.example/linux/chrome/deb', 'stable', 'main', ''],
    ['https://y.example/debian', 'bookworm', 'main', '/usr/share/keyrings/y.gpg'],
    ['http://m.example/debian-security', 'bookworm-security', 'main', archive],
    ['http://m.example/debian', 'bookworm-backports', 'main', ''],
    ['http://main.example/debian/', 'bookworm', 'main', archive],
    ['http://docker.example/debian', 'bookworm', 'stable', ''],
  ];
  const sources = rows.map(([uri = '', suite = '', component = '', signedBy = '']) =>
    ({ uri, suite, components: [component], signedBy }));
  const mirrors = chooseMirrors(sources, { kind: 'debian', codename: 'bookworm' });
  assert.is(mirrors[0], 'http://main.example/debian/');
  assert.is(mirrors.length, 3);
  assert.not(mirrors.some((uri) => /y\.example|docker|security/.test(uri)));
});

test('the configuration names the source of MySQL and its keyring, and disables every hook', () => {
  const keyring = '/k.gpg';
  assert.is(
    aptSource('http://m.example/debian', keyring, { kind: 'debian', codename: 'bookworm' }),
    'deb [signed-by=/k.gpg] http://m.example/debian sid main\n',
  );
  assert.is(
    aptSource('http://m.example/ubuntu', keyring, { kind: 'ubuntu', codename: 'noble' }),
    'deb [signed-by=/k.gpg] http://m.example/ubuntu noble main universe\n',
  );
  const text = aptConfiguration(aptFiles('/cache/x'), 'arm64');
  for (const hook of ['APT::Update::Post-Invoke', 'DPkg::Post-Invoke', 'AptCli::Hooks']) {
    assert.match(text, `#clear ${hook};`);
  }
  assert.not.match(text, /Unauthenticated "true"|InsecureRepositories "true"|::Proxy/);
});

const progress: [line: string, percent: number | undefined][] = [
  ['dlstatus:1:0.0000:Retrieving file 1 of 55', 0],
  ['dlstatus:12:41.3275:Retrieving file 12 of 55 (3s remaining)', 41.3275],
  ['pmstatus:x:50.0:Installing', undefined],
  ['', undefined],
];

for (const [line, percent] of progress) {
  test(`the progress line is parsed: ${line || '(empty)'}`, () => {
    assert.is(parseProgress(line), percent);
  });
}

test('the size of a fetch is the sum of its packages', () => {
  const output = [
    'Reading package lists...',
    "'http://m.example/pool/a_1%3a2_amd64.deb' a_1%3a2_amd64.deb 1500 SHA256:00",
    "'http://m.example/pool/b.deb' b_1_all.deb 500 ",
  ].join('\n');
  assert.equal(parseUris(output), { count: 2, bytes: 2000 });
  assert.equal(parseUris('E: Unable to locate package'), { count: 0, bytes: 0 });
});

test.run();
