/** Rolling restarts under load: every request is answered, and no counter decreases. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fetchAnswer } from '../harness/answer-recorder.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { newVariables } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import { freePort } from '../harness/free-port.ts';
import { GENEROUS_POLICY } from '../harness/otpd-on.ts';
import { holdFile } from '../harness/held-file.ts';
import { childrenOf, startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { FROM_SOURCE, ROOT } from '../harness/program.ts';
import { eventually, timed } from '../harness/waiting.ts';
import { openClient, post } from '../http/raw-client.ts';
import type { RawClient } from '../http/raw-client.ts';

const ROLL_MAX_MS = 120_000;
const NEW_CONNECTIONS = 4;
const KEPT_CONNECTIONS = 8;

const folder = mkdtempSync(join(tmpdir(), 'otpd-rolling-'));
let database: Variables;

test.before(async () => { database = await newVariables(); });

test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs work on an otpd, which is stopped also after a failure. */
async function withOtpd(variables: object, work: (otpd: Otpd) => Promise<void>): Promise<void> {
  const otpd = await startOtpd({ ...database, ...variables });
  try {
    await work(otpd);
  } catch (error) {
    throw new Error(otpd.output(), { cause: error });
  } finally {
    otpd.stop();
  }
  assert.is(await otpd.ended, 0);
}

function countOf(otpd: Otpd, pattern: string): number {
  return otpd.output().split(pattern).length - 1;
}

function workersOf(otpd: Otpd): number[] {
  return childrenOf(otpd.processId);
}

async function hasRolled(otpd: Otpd, times: number): Promise<void> {
  await eventually(`${times} rolls`, () => countOf(otpd, '"event":"roll_finished"') === times,
    ROLL_MAX_MS);
}

/** Responses by status and errors by code. */
type Tally = Map<string, number>;

function note(tally: Tally, what: string): void {
  tally.set(what, (tally.get(what) ?? 0) + 1);
}

/** otpd answers 503 after 3 s when the machine is busy, and at once when it has no room. */
const BUSY_MS = 1000;

/** Sends a request, and repeats it when the machine was too busy; never rejects. */
async function ask(...request: Parameters<typeof askOnce>): Promise<string> {
  const { ms, result } = await timed(() => askOnce(...request));
  return result.endsWith(' 503') && ms > BUSY_MS ? ask(...request) : result;
}

function askOnce(port: number, agent: Agent, path: string, body: object, key: string) {
  return new Promise<string>((resolve) => {
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': key };
    const sent = request({ host: '127.0.0.1', port, path, method: 'POST', headers, agent },
      (answer) => answer.resume().on('end', () => resolve(`${path} ${answer.statusCode}`)));
    sent.on('error', ({ code }: NodeJS.ErrnoException) => resolve(`${path} ${code}`));
    sent.end(JSON.stringify(body));
  });
}

/** A client that requests codes and verifies wrong ones until `isOver` returns true. */
async function load(port: number, name: string, keepAlive: boolean, tally: Tally,
  isOver: () => boolean): Promise<void> {
  const agent = new Agent({ keepAlive, maxSockets: 1 });
  for (let round = 0; !isOver(); round += 1) {
    const user = { user_id: `${name}-${round}`, purpose: 'login' };
    note(tally, await ask(port, agent, '/otp/request', user, `${name}-${round}`));
    const guess = { user_id: `nobody-${name}`, purpose: 'login', code: '000000' };
    note(tally, await ask(port, agent, '/otp/verify', guess, `${name}-${round}`));
  }
  agent.destroy();
}

/** Polls /readyz. */
async function watchReadiness(otpd: Otpd, tally: Tally, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const answer = await fetchAnswer(`http://127.0.0.1:${otpd.adminPort}/readyz`);
    note(tally, `${answer.status} ${await answer.text()}`);
  }
}

async function counted(otpd: Otpd, route: string, code: string): Promise<number> {
  const text = await (await fetchAnswer(`http://127.0.0.1:${otpd.adminPort}/metrics`)).text();
  return valueOf(parseExposition(text), 'otpd_http_requests_total', { route, code });
}

test('three rolling restarts under load refuse, reset and lose no request',
  () => withOtpd({ WORKERS: '2', POLICY_FILE: GENEROUS_POLICY }, async (otpd) => {
    const [answers, readiness]: [Tally, Tally] = [new Map(), new Map()];
    let isOver = false;
    const clients = Array.from({ length: NEW_CONNECTIONS + KEPT_CONNECTIONS }, (_, number) =>
      load(otpd.port, `c${number}`, number >= NEW_CONNECTIONS, answers, () => isOver));
    const watching = watchReadiness(otpd, readiness, () => isOver);
    const workers = [workersOf(otpd)];
    try {
      for (const roll of [1, 2, 3]) {
        otpd.signal('SIGUSR2');
        await hasRolled(otpd, roll);
        workers.push(workersOf(otpd));
      }
    } finally {
      isOver = true;
      await Promise.all([...clients, watching]);
    }
    assert.equal(workers.map(({ length }) => length), [2, 2, 2, 2]);
    assert.is(new Set(workers.flat()).size, 8);
    assert.equal([...answers.keys()].sort(), ['/otp/request 201', '/otp/verify 404']);
    // On a busy machine the database may answer late without a fault of the workers.
    for (const check of ['database', 'writes']) {
      readiness.delete(`503 {"error":"not_ready","failed":["${check}"]}`);
    }
    assert.equal([...readiness.keys()], ['200 {"status":"ready"}']);
    await eventually('every request is counted', async () =>
      await counted(otpd, '/otp/request', 'issued') === answers.get('/otp/request 201')
        && await counted(otpd, '/otp/verify', 'otp_not_found') === answers.get('/otp/verify 404'));
    assert.is(countOf(otpd, '"event":"worker_replaced"'), 6);
    assert.ok(answers.get('/otp/request 201')! > 60, 'there was load');
  }));

test('a retiring worker answers its open connections with Connection: close',
  async () => {
    const policy = join(folder, 'held-policy.json');
    writeFileSync(policy, '{}');
    await withOtpd({ WORKERS: '2', POLICY_FILE: policy }, async (otpd) => {
      const guess = post('/otp/verify', '{"user_id":"u","purpose":"p","code":"123456"}');
      const open = new Set<RawClient>();
      for (const worker of workersOf(otpd)) {
        // The other worker accepts what this one cannot.
        process.kill(worker, 'SIGSTOP');
        for (let each = 0; each < 4; each += 1) {
          const client = await openClient(otpd.port);
          client.send(guess);
          assert.is((await client.readResponse()).status, 404);
          open.add(client);
        }
        process.kill(worker, 'SIGCONT');
      }
      const askAll = async (): Promise<void> => {
        for (const client of open) {
          client.send(guess);
          // On a busy machine a connection may have been idle for a second, and is then closed.
          const got = await client.readResponse().catch(() => null);
          assert.is(got?.status ?? 404, 404);
          if (got?.headers.get('connection') === 'keep-alive') continue;
          assert.is(await client.ended(), '');
          client.destroy();
          open.delete(client);
        }
      };
      const held = holdFile(policy);
      otpd.signal('SIGUSR2');
      await held.give('{}');
      await eventually('one worker retires', async () => {
        await askAll();
        return countOf(otpd, '"worker_replaced"') === 1;
      }, ROLL_MAX_MS);
      await askAll();
      assert.is(open.size, 4);
      await held.give('{}');
      await eventually('every connection is closed', async () => {
        await askAll();
        return open.size === 0;
      }, ROLL_MAX_MS);
      await hasRolled(otpd, 1);
    });
  });

test('any number of SIGUSR2 during a rolling restart lead to one more', async () => {
  const policy = join(folder, 'rolled-policy.json');
  writeFileSync(policy, '{}');
  await withOtpd({ WORKERS: '2', POLICY_FILE: policy }, async (otpd) => {
    const held = holdFile(policy);
    otpd.signal('SIGUSR2');
    await eventually('it has started', () => countOf(otpd, '"roll_started"') === 1, ROLL_MAX_MS);
    otpd.signal('SIGUSR2');
    for (const replaced of [1, 2, 3, 4]) {
      await held.give('{}');
      await eventually('one more worker is new', () =>
        countOf(otpd, '"worker_replaced"') === replaced, ROLL_MAX_MS);
      if (replaced === 1) otpd.signal('SIGUSR2');
    }
    await hasRolled(otpd, 2);
    assert.is(countOf(otpd, '"roll_started"'), 2);
    assert.is(countOf(otpd, '"worker_replaced"'), 4);
  });
});

/** The limits in the response to a new user. */
async function limitOf(otpd: Otpd, user: string): Promise<string> {
  const client = await openClient(otpd.port);
  client.send(post('/otp/request', JSON.stringify({ user_id: user, purpose: 'p' }),
    { 'Idempotency-Key': user }));
  const { headers } = await client.readResponse();
  client.destroy();
  return headers.get('ratelimit-policy') ?? '';
}

test('new workers read their files again; one that does not start ends the restart', async () => {
  const file = join(folder, 'policy.json');
  writeFileSync(file, '{"default":{"user_limit":5}}');
  await withOtpd({ WORKERS: '2', POLICY_FILE: file }, async (otpd) => {
    assert.match(await limitOf(otpd, 'a'), '"user";q=5');
    writeFileSync(file, '{"default":{"user_limit":7}}');
    otpd.signal('SIGUSR2');
    await hasRolled(otpd, 1);
    assert.match(await limitOf(otpd, 'b'), '"user";q=7');

    const workers = workersOf(otpd);
    writeFileSync(file, '{"default":{"user_limit":0}}');
    otpd.signal('SIGUSR2');
    await eventually('it has failed', () => countOf(otpd, '"event":"roll_failed","worker":1') === 1,
      ROLL_MAX_MS);
    await otpd.prints('default.user_limit: must be a whole number from 1 to 1000');
    await otpd.prints('"message":"a worker ended before it listened;');
    assert.equal(workersOf(otpd), workers);
    assert.match(await limitOf(otpd, 'c'), '"user";q=7');
    await eventually('otpd is ready', async () =>
      (await fetchAnswer(`http://127.0.0.1:${otpd.adminPort}/readyz`)).status === 200);

    writeFileSync(file, '{}');
    otpd.signal('SIGUSR2');
    await hasRolled(otpd, 2);
    assert.match(await limitOf(otpd, 'd'), '"user";q=3');
  });
});

/** A copy of the project that the test changes while it runs. */
function copyProject(): string {
  const copy = join(folder, 'otpd');
  for (const name of ['src', 'schema', 'messages', 'pages', 'openapi.json', 'package.json']) {
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

test('new workers run the new code and .env, and must listen on the same address',
  async () => {
    const copy = copyProject();
    const port = await freePort();
    const set = (lines: string): void => writeFileSync(join(copy, '.env'), lines);
    set(`PORT=${port}\n`);
    const otpd = await startOtpd({ ...database, WORKERS: '2', PORT: undefined },
      { folder: copy, main: FROM_SOURCE });
    try {
      assert.is(otpd.port, port);
      const before = await fetchAnswer(`http://127.0.0.1:${port}/`,
        { headers: { connection: 'close' } });
      assert.is(before.headers.get('cache-control'), 'no-store');
      const file = join(copy, 'src/http/response.ts');
      writeFileSync(file, readFileSync(file, 'utf8').replace('no-store', 'no-store, private'));
      const { apiKeys } = newApiClients(['app1']);
      set(`PORT=${port}\nAPI_KEYS=${apiKeys}\n`);
      otpd.signal('SIGUSR2');
      await hasRolled(otpd, 1);
      const after = await fetch(`http://127.0.0.1:${port}/otp/verify`, { method: 'POST' });
      assert.is(after.headers.get('cache-control'), 'no-store, private');
      assert.is(after.status, 401);
      set(`PORT=${await freePort()}\n`);
      otpd.signal('SIGUSR2');
      await eventually('it fails', () => countOf(otpd, '"event":"roll_failed"') === 1, ROLL_MAX_MS);
      await otpd.prints('a worker listens on another HOST or PORT than the others');
      assert.is(workersOf(otpd).length, 2);
    } finally {
      otpd.stop();
    }
    assert.is(await otpd.ended, 0);
  });

test('SIGUSR2 with one process logs that WORKERS is needed and changes nothing', async () => {
  await withOtpd({}, async (otpd) => {
    otpd.signal('SIGUSR2');
    await eventually('the refusal is logged', () => countOf(otpd,
      '"event":"roll_refused","message":"a rolling restart needs WORKERS of 2 or more"') === 1);
    assert.is((await fetchAnswer(`http://127.0.0.1:${otpd.port}/`)).status, 404);
  });
});

test('a stop during a rolling restart ends cleanly', async () => {
  await withOtpd({ WORKERS: '2' }, async (otpd) => {
    otpd.signal('SIGUSR2');
    await eventually('it has started', () => countOf(otpd, '"roll_started"') === 1, ROLL_MAX_MS);
    otpd.stop();
    await otpd.ended;
    assert.is(countOf(otpd, '"roll_failed"'), 0);
  });
});

test.run();
