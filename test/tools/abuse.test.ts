/** The abuse suite finds each flaw of an imitation of otpd, and none in otpd itself. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runSuite } from '../../tools/abuse/suite.ts';
import { Target } from '../../tools/abuse/target.ts';
import type { Result } from '../../tools/abuse/check.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { newVariables } from '../harness/command.ts';
import { startOtpd } from '../harness/otpd.ts';
import { finish, start } from '../harness/run.ts';
import { API_KEY, StandIn } from './stand-in.ts';
import type { Flaw } from './stand-in.ts';

/** The default of --messages. */
const MESSAGES_MAX = 60;

const MAIN = ['--import', 'tsx', 'tools/abuse/main.ts'];

function newTarget(url: URL, apiKey: string | null, codeOf: (user: string) => string): Target {
  return new Target({
    url,
    apiKey,
    purpose: 'abuse',
    user: 'abuse{n}@example.invalid',
    readCode: async (user) => codeOf(user),
    codeDigits: 6,
    messagesMax: MESSAGES_MAX,
  });
}

/** Runs all checks against an imitation with a flaw. */
async function attack(flaw: Flaw | null): Promise<Result[]> {
  const standIn = new StandIn(flaw);
  const target = newTarget(await standIn.start(), API_KEY, (user) => standIn.codeOf(user));
  try {
    return await runSuite(target);
  } finally {
    target.close();
    standIn.stop();
  }
}

function kindsOf(results: readonly Result[], kind: Result['kind']): string[] {
  return results.filter((result) => result.kind === kind)
    .map(({ name, detail }) => `${name}: ${detail}`);
}

/** The check that finds each flaw. */
const CAUGHT_BY: Readonly<Record<Flaw, string>> = {
  'limit race': 'simultaneous requests of one user',
  'wrong wait': 'simultaneous requests of one user',
  'key race': 'simultaneous requests with one key',
  'key of another': 'simultaneous requests with one key',
  'guess race': 'simultaneous guesses',
  'request while locked': 'simultaneous guesses',
  'double redeem': 'simultaneous right codes',
  'key oracle': 'simultaneous right codes',
  'forwarded for': 'forged client IPs',
  'real ip': 'forged client IPs',
  'any origin': 'foreign web pages',
  'open preflight': 'foreign web pages',
  'no key needed': 'API keys',
  'public metrics': 'private paths',
  'sequential ids': 'unknown and guessed ids',
  'reflection': 'reflected header values',
  'attempts renewed': 'guesses after a new code',
  'spellings': 'spellings of one mailbox',
  'no network limit': 'networks of one client',
  'free guesses': 'guesses of one client IP',
  'last member wins': 'malformed bodies',
  'any type of field': 'malformed fields',
  'any media type': 'media types and keys',
  'stack': 'what answers reveal',
  'code in answer': 'what answers reveal',
  'cached': 'what answers reveal',
  'lenient parser': 'request smuggling',
  'endless header': 'slow header sections',
};

/** Most of an attack is waiting, so that all of them run at once. */
const attacks = new Map<Flaw | null, Promise<Result[]>>();

test.before(() => {
  for (const flaw of [null, ...Object.keys(CAUGHT_BY) as Flaw[]]) attacks.set(flaw, attack(flaw));
});

test('a sound service passes every check', async () => {
  const results = await attacks.get(null)!;
  assert.equal([...kindsOf(results, 'FINDING'), ...kindsOf(results, 'not run')], []);
});

for (const [flaw, name] of Object.entries(CAUGHT_BY)) {
  test(`"${name}" finds the flaw "${flaw}"`, async () => {
    const results = await attacks.get(flaw as Flaw)!;
    const caught = results.filter(({ kind }) => kind === 'FINDING');
    assert.ok(caught.some((result) => result.name === name), JSON.stringify(caught));
  });
}

/** Attacks a real otpd that prints its messages. */
async function attackOtpd(environment: object, apiKey: string | null): Promise<Result[]> {
  const otpd = await startOtpd({ ...await newVariables(), ...environment });
  const codeOf = (user: string) =>
    [...otpd.output().matchAll(/^message to (\S+): (?:\D*)(\d+) /gm)]
      .findLast(([, recipient]) => recipient === user)?.[2] ?? '';
  const target = newTarget(new URL(`http://127.0.0.1:${otpd.port}`), apiKey, codeOf);
  try {
    const results = await runSuite(target);
    assert.ok(target.messages <= MESSAGES_MAX);
    return results;
  } finally {
    target.close();
    otpd.stop();
    assert.is(await otpd.ended, 0);
  }
}

test('otpd passes every check', async () => {
  const { apiKeys, headersOf } = newApiClients(['abuse'], ['request', 'verify', 'read']);
  const apiKey = headersOf('abuse').Authorization!.slice('Bearer '.length);
  const results = await attackOtpd({ API_KEYS: apiKeys }, apiKey);
  assert.equal([...kindsOf(results, 'FINDING'), ...kindsOf(results, 'not run')], []);
});

test('without an API key, the checks that fit the limit of one client IP run', async () => {
  const results = await attackOtpd({ WORKERS: '2' }, null);
  assert.equal(kindsOf(results, 'FINDING'), []);
  assert.equal(kindsOf(results, 'not run').map((line) => line.split(':')[0]), [
    'API keys', 'spellings of one mailbox', 'networks of one client', 'guesses of one client IP',
  ]);
});

test('an API key that is missing or wrong is one error, and nothing is checked', async () => {
  const standIn = new StandIn(null);
  const url = await standIn.start();
  for (const variables of [{}, { OTPD_API_KEY: 'another' }]) {
    const run = start([url.href], variables, MAIN);
    assert.is(await finish(run), 2);
    assert.match(run.output(), /^abuse: http:.* the answer is 401; set OTPD_API_KEY to a key/);
  }
  standIn.stop();
});

test('the exit code is 0 without a finding, 1 with one, and 2 without an answer', async () => {
  const codes: (number | null)[] = [];
  for (const flaw of [null, 'wrong wait'] as const) {
    const standIn = new StandIn(flaw);
    const url = await standIn.start();
    const run = start([url.href, '--messages', '20'], { OTPD_API_KEY: API_KEY }, MAIN);
    codes.push(await finish(run));
    standIn.stop();
    assert.match(run.output(), /21 checks: /);
  }
  const unreachable = start(['http://127.0.0.1:1'], {}, MAIN);
  codes.push(await finish(unreachable));
  assert.match(unreachable.output(), /check the URL, and that otpd runs/);
  for (const [wrong, reason] of [
    [[], ''],
    [['ftp://host'], 'abuse: one URL is needed, such as http://127.0.0.1:3000\n'],
    [['http://host', '--messages', '0'], 'abuse: --messages must be a whole number from 1\n'],
    [['http://host', '--user', 'me'], 'abuse: --user must contain {n}\n'],
  ] as const) {
    const run = start([...wrong], {}, MAIN);
    assert.is(await finish(run), 2);
    assert.ok(run.output().startsWith(`${reason}Usage: npm run abuse`), run.output());
  }
  assert.equal(codes, [0, 1, 2]);
});

test.run();
