/**
 * Two servers with replication between them, and otpd with both in DB_HOST: it follows the one that
 * takes writes, and uses none when both do.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { objectOf, runCommand } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { loggedErrors, startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { settingsFor } from '../harness/database.ts';
import { eventually, promptly, timed } from '../harness/waiting.ts';
import { Provider } from './provider.ts';
import { startPair, USER } from './pair.ts';
import type { Pair, PairedServer } from './pair.ts';

const FLOWS_AT_ONCE = 6;

/** A request waits this long for the next primary; a busy machine may take longer to swap. */
const SWAP_MAX_MS = 1000;

const secrets = newSecretsText();
let pair: Pair;
let provider: Provider;

test.before(async () => {
  pair = await startPair();
  provider = await Provider.start();
});
test.after(async () => {
  closeClient();
  await stopAllOtpd();
  await provider?.close();
  await pair?.stop();
});

function variablesOf(servers: readonly PairedServer[]): Variables {
  return { DB_SOCKET: '', DB_HOST: servers.map(({ label }) => label).join(), DB_USER: USER,
    DB_NAME: pair.database, OTP_SECRETS: secrets };
}

function startOn(servers: readonly PairedServer[]): Promise<Otpd> {
  return startOtpdOn({
    settings: { ...settingsFor(pair.database, ''), user: USER }, secrets,
    webhookUrl: provider.urlFor('/pair'), webhookSecrets: provider.secrets,
    environment: { ...variablesOf(servers), ADMIN_PORT: '0' },
  });
}

async function readiness({ adminPort }: Otpd): Promise<string> {
  const reply = await promptly(() => fetch(`http://127.0.0.1:${adminPort}/readyz`));
  return `${reply.status} ${await reply.text()}`;
}

const READY = '200 {"status":"ready"}';

function becomes(otpd: Otpd, failed: string | null): Promise<void> {
  const expected = failed === null ? READY
    : `503 ${JSON.stringify({ error: 'not_ready', failed: [failed] })}`;
  return eventually(expected, async () => (await readiness(otpd)) === expected);
}

let lastUser = 0;

function request({ port }: Otpd, user: string, key = user): Promise<Reply> {
  const body = { user_id: user, purpose: 'login' };
  lastUser += 1;
  const address = `10.7.${(lastUser >> 8) & 255}.${lastUser & 255}`;
  return promptly(() => post({ port, path: '/otp/request', body, address, key }));
}

function newUser(): string {
  lastUser += 1;
  return `s${lastUser}.${process.pid}`;
}

async function serves(otpd: Otpd): Promise<void> {
  await eventually('a request succeeds', async () =>
    (await request(otpd, newUser())).status === 201);
}

/** Clients that play one flow after the other, and compare each answer with the contract. */
class Traffic {
  readonly acknowledged: string[] = [];
  readonly wrong: string[] = [];
  failed = 0;
  flows = 0;
  #isOver = false;
  readonly #clients: Promise<void>[];
  readonly #otpd: Otpd;

  constructor(otpd: Otpd) {
    this.#otpd = otpd;
    this.#clients = Array.from({ length: FLOWS_AT_ONCE }, () => this.#play());
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients);
  }

  async #play(): Promise<void> {
    while (!this.#isOver) {
      await this.#flow(newUser());
      this.flows += 1;
    }
  }

  async #flow(user: string): Promise<void> {
    const { port } = this.#otpd;
    const issued = await this.#expect('201', () => request(this.#otpd, user));
    const otpId = String(issued.body.otp_id);
    this.acknowledged.push(otpId);
    await eventually('the code is sent', () => provider.callsOf(otpId).length > 0);
    const { code } = provider.callsOf(otpId)[0]!;
    const verify = (guess: string): Promise<Reply> => promptly(() =>
      post({ port, path: '/otp/verify', body: { user_id: user, purpose: 'login', code: guess } }));
    await this.#expect('401 invalid_code', () => verify(code === '000000' ? '000001' : '000000'));
    await this.#expect('200', () => verify(code));
    await this.#expect('410 code_used', () => verify(code));
    await this.#expect('200', () =>
      promptly(() => send({ port, method: 'GET', path: `/otp/${otpId}` })));
    const again = await this.#expect('201', () => request(this.#otpd, user));
    if (again.text !== issued.text) this.wrong.push(`replayed ${again.text}`);
  }

  /** A 503 is repeated: it had no effect, or its key or the state of the code shows the effect. */
  async #expect(expected: string, call: () => Promise<Reply>): Promise<Reply> {
    for (;;) {
      const reply = await call();
      if (reply.status === 503) {
        this.failed += 1;
        continue;
      }
      const { error } = reply.body;
      const got = error === undefined ? `${reply.status}` : `${reply.status} ${error}`;
      if (got !== expected) this.wrong.push(`${got} instead of ${expected}`);
      return reply;
    }
  }
}

async function countOn(server: PairedServer, otpIds: readonly string[]): Promise<number> {
  const list = otpIds.map((id) => `X'${id}'`).join();
  const [row] = await server.asRoot(
    `SELECT COUNT(*) AS n FROM ${pair.database}.otps WHERE otp_id IN (${list})`);
  return Number(row?.n);
}

test('a planned swap under traffic loses nothing, fails nothing, and moves every session',
  async () => {
    const { first, second } = pair;
    const otpd = await startOn([first, second]);
    const traffic = new Traffic(otpd);
    await eventually('flows run', () => traffic.flows > 2 * FLOWS_AT_ONCE);
    const { ms } = await timed(async () => {
      await first.setReadOnly(true);
      await pair.catchUp(second, first);
      await second.asRoot('STOP REPLICA');
      await second.setReadOnly(false);
    });
    const before = traffic.flows;
    await eventually('flows run', () => traffic.flows > before + 2 * FLOWS_AT_ONCE);
    await traffic.end();
    assert.equal(traffic.wrong, []);
    if (ms < SWAP_MAX_MS) assert.is(traffic.failed, 0);
    assert.is(await countOn(second, traffic.acknowledged), traffic.acknowledged.length);
    await becomes(otpd, null);
    await eventually('no session is left on the first server', async () =>
      (await first.countSessions()) === 0);
    assert.ok((await second.countSessions()) > 0);
    const moved = otpd.output().match(/^.*"database_moved".*$/gm) ?? [];
    assert.is(moved.length, 1, moved.join('\n'));
    assert.match(moved[0]!, `"from":"${first.label}","to":"${second.label}"`);
    const metrics = await (await fetch(`http://127.0.0.1:${otpd.adminPort}/metrics`)).text();
    assert.match(metrics, 'otpd_database_moves_total 1\n');
    assert.match(metrics, `otpd_database_primary{host="${second.label}",worker="0"} 1\n`);
    await stopAllOtpd();
  });

test('a primary that is stopped is left for the other one, and a split is served by none',
  async () => {
    const { first, second } = pair;
    await pair.follow(first, second);
    const otpd = await startOn([first, second]);
    await serves(otpd);
    await pair.catchUp(first, second);
    await second.signal('SIGSTOP');
    await becomes(otpd, 'read_only');
    await first.asRoot('STOP REPLICA');
    await first.setReadOnly(false);
    await serves(otpd);
    await becomes(otpd, null);
    await second.signal('SIGCONT');
    await becomes(otpd, 'split');
    assert.is((await request(otpd, newUser())).status, 503);
    await otpd.prints('"event":"database_split"');
    await second.setReadOnly(true);
    await serves(otpd);
    await becomes(otpd, null);
    assert.is(await second.countSessions(), 0);
    await stopAllOtpd();
  });

test('a single host that is read-only for a while serves again without a restart', async () => {
  const { first } = pair;
  const otpd = await startOn([first]);
  await serves(otpd);
  await first.setReadOnly(true);
  await becomes(otpd, 'read_only');
  const { status, headers } = await request(otpd, newUser());
  assert.is(status, 503);
  assert.match(String(headers['retry-after']), /^\d+$/);
  await first.setReadOnly(false);
  await serves(otpd);
  await becomes(otpd, null);
  await stopAllOtpd();
  assert.equal(loggedErrors().filter((line) => !line.includes('"database_split"')), []);
});

test('every command goes to the primary, and doctor describes each host', async () => {
  const variables = variablesOf([pair.second, pair.first]);
  const shown = await runCommand(['show', 'nobody'], variables);
  assert.equal([shown.status, objectOf(shown).outcome, shown.err], [1, 'unknown', '']);
  const migrated = await runCommand(['migrate'], variables);
  assert.equal([migrated.status, migrated.out], [0, 'the database is up to date\n']);
  const findings = objectOf(await runCommand(['doctor'], variables)).findings as
    { level: string; check: string; found: string }[];
  const hosts = findings.filter(({ check, level }) => check === 'hosts' && level === 'ok');
  assert.is(hosts.length, 2, JSON.stringify(findings));
  assert.match(hosts[0]!.found, `${pair.second.label}: takes no writes, MySQL `);
  assert.match(hosts[1]!.found, `${pair.first.label}: primary, MySQL `);
});

test('without a primary every command ends in one line that names the hosts', async () => {
  const { first, second } = pair;
  await first.setReadOnly(true);
  try {
    for (const command of [['serve'], ['migrate'], ['show', 'nobody'], ['unlock', 'nobody']]) {
      const { status, err } = await runCommand(command,
        { PORT: '0', ...variablesOf([first, second]) });
      assert.is(status, 1);
      assert.is(err.replace(/; .*/, ''), `otpd: no primary: ${first.label} takes no writes, `
        + `${second.label} takes no writes\n`);
    }
  } finally {
    await first.setReadOnly(false);
  }
});

test('DB_CONSISTENCY=before is refused on a server that is in no group', async () => {
  const variables = { PORT: '0', ...variablesOf([pair.first]), DB_CONSISTENCY: 'before' };
  const line = 'DB_CONSISTENCY is before, and the server is in no group; remove DB_CONSISTENCY, or'
    + ' set up Group Replication';
  const { status, err } = await runCommand(['serve'], variables);
  assert.equal([status, err], [1, `otpd: ${line}\n`]);
  const { findings } = objectOf(await runCommand(['doctor'], variables));
  const faults = (findings as { level: string; found: string; remedy: string }[])
    .filter(({ level }) => level === 'fault').map(({ found, remedy }) => `${found}; ${remedy}`);
  assert.ok(faults.includes(line), faults.join('\n'));
});

test.run();
