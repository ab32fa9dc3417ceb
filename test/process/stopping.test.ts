/** How real processes stop: signals, open connections, deliveries and workers. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fetchAnswer } from '../harness/answer-recorder.ts';
import { runCommand, variablesFor } from '../harness/command.ts';
import { newDatabaseName } from '../harness/database.ts';
import { hang, startHttpSink } from '../harness/http-sink.ts';
import { childrenOf, startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { canRun, works } from '../harness/not-run.ts';
import { withoutLog } from '../harness/printed.ts';
import { recordCode } from '../harness/leak-recorder.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { openClient, post } from '../http/raw-client.ts';
import type { RawClient } from '../http/raw-client.ts';

/** A stop takes at most 25 s; the rest is for a busy machine. */
const STOP_MAX_MS = 60_000;

const GUESS_BODY = '{"user_id":"u","purpose":"p","code":"123456"}';
const GUESS = post('/otp/verify', GUESS_BODY);

const variables = variablesFor(newDatabaseName());

test.before(async () => {
  assert.is((await runCommand(['migrate'], variables)).status, 0);
});

/** The body of /readyz; '' when otpd does not listen. */
async function readiness({ adminPort }: Otpd): Promise<string> {
  try {
    const answer = await fetchAnswer(`http://127.0.0.1:${adminPort}/readyz`);
    return `${answer.status} ${await answer.text()}`;
  } catch {
    return '';
  }
}

/** Waits for a readiness: on a busy machine a check may not end in its time. */
async function becomes(otpd: Otpd, expected: string): Promise<void> {
  await eventually(expected, async () => await readiness(otpd) === expected);
}

const IDLE_CONNECTIONS = 4;

const READY = '200 {"status":"ready"}';
const STOPPING = '503 {"error":"not_ready","failed":["stopping"]}';

type Unfinished = Readonly<{ client: RawClient; idle: RawClient[] }>;

/** Sends a request except for its body, and waits until otpd has the rest and asks for the body. */
async function openUnfinished(otpd: Otpd): Promise<Unfinished> {
  const client = await openClient(otpd.port);
  client.send(post('/otp/verify', '', {
    'Content-Length': String(GUESS_BODY.length), Expect: '100-continue',
  }));
  assert.is((await client.readResponse()).head, 'HTTP/1.1 100 Continue');
  const idle: RawClient[] = [];
  for (let each = 0; each < IDLE_CONNECTIONS; each += 1) {
    const probe = await openClient(otpd.port);
    probe.send(GUESS);
    assert.is((await probe.readResponse()).status, 404);
    idle.push(probe);
  }
  return { client, idle };
}

for (const WORKERS of ['1', '2']) {
  test(`a stop with WORKERS=${WORKERS} answers the requests in flight`, async () => {
    const otpd = await startOtpd({ ...variables, WORKERS });
    const { client, idle } = await openUnfinished(otpd);
    await becomes(otpd, READY);
    otpd.stop();
    for (const each of idle) assert.is(await each.ended(), '');
    assert.is(await readiness(otpd), STOPPING);
    client.send(GUESS_BODY);
    const answer = await client.readResponse();
    assert.is(`${answer.status} ${answer.headers.get('connection')}`, '404 close');
    for (const each of [client, ...idle]) each.destroy();
    assert.is(await otpd.ended, 0);
    assert.match(withoutLog(otpd.output()), /stopped\n$/);
  });
}

test('an idle connection, half a request and a hanging delivery do not delay a stop', async () => {
  const sink = await startHttpSink({ behaviour: hang });
  const otpd = await startOtpd({ ...variables, DELIVERY: 'webhook', WEBHOOK_URL: sink.url,
    WEBHOOK_SECRETS: `whsec_${randomBytes(32).toString('base64')}` });
  const idle = await openClient(otpd.port);
  idle.send(post('/otp/request', '{"user_id":"U1","purpose":"login"}'));
  assert.is((await idle.readResponse()).status, 201);
  const [sent] = await sink.waitFor(1);
  recordCode((JSON.parse(sent!.body) as { data: { code: string } }).data.code);
  const partial = await openClient(otpd.port);
  partial.send(GUESS.slice(0, 30));
  otpd.stop();
  assert.is(await promptly(() => otpd.ended, STOP_MAX_MS), 0);
  for (const each of [idle, partial]) each.destroy();
  await sink.close();
});

test('a second signal ends otpd at once with 1', async () => {
  const otpd = await startOtpd(variables);
  const { client, idle } = await openUnfinished(otpd);
  otpd.stop();
  await becomes(otpd, STOPPING);
  const begun = performance.now();
  await eventually('a signal is a new request', () => performance.now() - begun > 1100);
  otpd.stop();
  assert.is(await promptly(() => otpd.ended), 1);
  // The process did not finish its stop.
  assert.not.match(otpd.output(), /^stopped/m);
  for (const each of [client, ...idle]) each.destroy();
});

test('a worker that cannot exit is killed, and otpd exits with 1', async () => {
  const otpd = await startOtpd({ ...variables, WORKERS: '2' });
  const [id] = childrenOf(otpd.processId);
  process.kill(id!, 'SIGSTOP');
  otpd.stop();
  assert.is(await promptly(() => otpd.ended, STOP_MAX_MS), 1);
  assert.match(withoutLog(otpd.output()),
    /stopped: not all requests in flight were answered\n$/);
});

test('workers that crash in a loop make otpd exit with 1 and the reason', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-stopping-'));
  const policy = join(folder, 'policy.json');
  writeFileSync(policy, '{}');
  const otpd = await startOtpd({ ...variables, WORKERS: '2', POLICY_FILE: policy });
  writeFileSync(policy, '{');
  process.kill(childrenOf(otpd.processId)[0]!, 'SIGKILL');
  assert.is(await otpd.ended, 1);
  assert.is(otpd.output().split('is not JSON').length - 1, 10);
  assert.match(otpd.output(), /otpd: more than 10 workers ended unexpectedly within a minute; /);
  rmSync(folder, { recursive: true });
});

const NAMESPACE = ['unshare', '--pid', '--fork', '--mount-proc'] as const;

/** The state of a process (proc(5)); Z is an exited process whose parent has not waited for it. */
function stateOf(processId: number): string {
  return /\) (\w)/.exec(readFileSync(`/proc/${processId}/stat`, 'utf8'))![1]!;
}

const AS_PROCESS_1 = 'otpd as process 1 of a container handles signals and reaps its workers';

// A PID namespace needs rights that not every machine grants.
if (canRun(AS_PROCESS_1, works(...NAMESPACE, 'true'), 'unshare --pid fails')) {
  test(AS_PROCESS_1, async () => {
    const otpd = await startOtpd({ ...variables, WORKERS: '2' }, { under: NAMESPACE });
    const [first] = childrenOf(otpd.processId) as [number];
    const status = readFileSync(`/proc/${first}/status`, 'utf8');
    assert.match(status, /^NSpid:\t\d+\t1$/m);
    const workers = childrenOf(first);
    process.kill(workers[0]!, 'SIGKILL');
    await eventually('another worker has the slot', async () => {
      const now = childrenOf(first);
      return now.length === 2 && !now.includes(workers[0]!)
        && await readiness(otpd) === READY;
    }, STOP_MAX_MS);
    const all = readFileSync(`/proc/${first}/task/${first}/children`, 'utf8').trim().split(' ');
    assert.equal(all.map((id) => stateOf(Number(id))).filter((state) => state === 'Z'), []);
    process.kill(first, 'SIGHUP');
    await eventually('otpd has reloaded', () => otpd.output().includes('nothing_to_reload'));
    process.kill(first, 'SIGTERM');
    assert.is(await otpd.ended, 0);
    assert.match(withoutLog(otpd.output()), /stopped\n$/);
  });
}

test.run();
