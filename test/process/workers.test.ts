/** Health and metrics of several workers, of which some hang or die. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import { fetchAnswer } from '../harness/answer-recorder.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { closeClient, post, send } from '../harness/client.ts';
import { newVariables } from '../harness/command.ts';
import { settingsFor } from '../harness/database.ts';
import { parseExposition, valueOf } from '../harness/exposition.ts';
import type { Metric } from '../harness/exposition.ts';
import { holdFile } from '../harness/held-file.ts';
import { childrenOf, startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { eventually, promptly } from '../harness/waiting.ts';

const REQUESTS = 60;
const NOT_FOUND = { route: 'other', code: 'not_found' };
const folder = mkdtempSync(join(tmpdir(), 'otpd-workers-'));
const policy = join(folder, 'policy.json');

let otpd: Otpd;

test.before(async () => {
  writeFileSync(policy, '{}');
  otpd = await startOtpd(await newVariables({ WORKERS: '2', POLICY_FILE: policy }));
});
test.after(async () => {
  rmSync(folder, { recursive: true });
  closeClient();
  otpd.stop();
  assert.is(await otpd.ended, 0);
});

async function scrape(): Promise<Map<string, Metric>> {
  return parseExposition(await promptly(async () =>
    (await fetchAnswer(`http://127.0.0.1:${otpd.adminPort}/metrics`)).text()));
}

async function readiness(): Promise<string> {
  return (await fetchAnswer(`http://127.0.0.1:${otpd.adminPort}/readyz`)).text();
}

async function countNotFound(): Promise<number> {
  return valueOf(await scrape(), 'otpd_http_requests_total', NOT_FOUND);
}

/** Waits for readiness: on a busy machine a check may not end in its time. */
async function becomesReady(): Promise<void> {
  await eventually('otpd is ready', async () => await readiness() === '{"status":"ready"}');
}

/** Sends enough requests that every worker gets some. */
async function load(): Promise<void> {
  await Promise.all(Array.from({ length: REQUESTS }, () =>
    send({ port: otpd.port, path: '/nothing', method: 'GET' })));
}

/** Waits for metrics with this many silent workers; on a busy machine others may be late, too. */
async function silentWorkers(count: number): Promise<Map<string, Metric>> {
  let metrics = await scrape();
  await eventually(`${count} are silent`, async () => {
    metrics = await scrape();
    return valueOf(metrics, 'otpd_workers_silent') === count;
  });
  return metrics;
}

function workerIds(): number[] {
  return childrenOf(otpd.processId);
}

test('counters and histograms are summed, and process gauges have a worker label', async () => {
  await load();
  const metrics = await silentWorkers(0);
  assert.is(valueOf(metrics, 'otpd_http_requests_total', NOT_FOUND), REQUESTS);
  assert.is(valueOf(metrics, 'otpd_http_request_duration_seconds_count', { route: 'other' }),
    REQUESTS);
  assert.is(valueOf(metrics, 'otpd_pool_size'), 32);
  assert.is(valueOf(metrics, 'otpd_workers'), 2);
  assert.is(valueOf(metrics, 'otpd_workers_wanted'), 2);
  const workers = metrics.get('otpd_resident_memory_bytes')!.lines.map(({ labels }) => labels);
  assert.equal(workers, [{ worker: '1' }, { worker: '2' }]);
  const cpu = metrics.get('process_cpu_seconds_total')!.lines.map(({ labels }) => labels);
  assert.equal(cpu, workers);
  assert.equal(metrics.get('otpd_build_info')!.lines.map(({ value }) => value), [1]);
  await becomesReady();
});

test('a silent worker is reported in time with its previous values', async () => {
  const [id] = workerIds();
  process.kill(id!, 'SIGSTOP');
  const metrics = await silentWorkers(1);
  assert.is(valueOf(metrics, 'otpd_http_requests_total', NOT_FOUND), REQUESTS);
  process.kill(id!, 'SIGCONT');
  await silentWorkers(0);
});

test('the death of a worker makes otpd not ready and decreases no counter', async () => {
  assert.is(await countNotFound(), REQUESTS);
  const [id] = workerIds();
  // The replacement cannot start before it has read this file.
  const held = holdFile(policy);
  process.kill(id!, 'SIGKILL');
  await eventually('the worker is missed', async () =>
    await readiness() === '{"error":"not_ready","failed":["workers"]}');
  assert.is(await countNotFound(), REQUESTS);
  await held.give('{}');
  await becomesReady();
  await load();
  const metrics = await silentWorkers(0);
  assert.is(valueOf(metrics, 'otpd_http_requests_total', NOT_FOUND), 2 * REQUESTS);
  assert.is(valueOf(metrics, 'otpd_worker_deaths_total'), 1);
  const workers = metrics.get('otpd_uptime_seconds')!.lines.map(({ labels }) => labels.worker);
  assert.equal(workers, ['1', '2']);
  // The time of the worker that has died counts no more.
  const cpu = metrics.get('process_cpu_seconds_total')!.lines.map(({ labels }) => labels.worker);
  assert.equal(cpu, workers);
});

test('support takes one connection of the first process, as doctor counts it', async () => {
  const { apiKeys, headersOf } = newApiClients(['desk']);
  const variables = await newVariables({ WORKERS: '2', API_KEYS: apiKeys });
  const supported = await startOtpd(variables);
  const headers = headersOf('desk');
  const body = { user_id: 'U1', purpose: 'login' };
  const call = { port: supported.port, path: '/otp/request', key: 'a', headers, body };
  assert.is((await post(call)).status, 201);
  const unlock = () =>
    post({ port: supported.adminPort, path: '/users/U1/unlock', headers, body: {} });
  const settings = settingsFor(variables.DB_NAME!);
  const [holder, observer] = [await openConnection(settings), await openConnection(settings)];
  try {
    await holder.run('hold', 'SELECT otp_id FROM otps FOR UPDATE', []);
    let isAnswered = false;
    const unlocking = Promise.all(Array.from({ length: 8 }, unlock))
      .finally(() => { isAnswered = true; });
    let most = 0;
    while (!isAnswered) {
      const [row] = await observer.run('count', `SELECT COUNT(*) AS n
        FROM information_schema.processlist
        WHERE db = ? AND info LIKE '%FOR UPDATE%' AND id <> CONNECTION_ID()`,
      [variables.DB_NAME!]);
      most = Math.max(most, Number(row!.n));
    }
    assert.equal(new Set((await unlocking).map(({ status }) => status)), new Set([503]));
    assert.is(most, 1);
    await holder.run('release', 'COMMIT', []);
    assert.is((await unlock()).status, 200);
  } finally {
    holder.destroy();
    observer.destroy();
    supported.stop();
    assert.is(await supported.ended, 0);
  }
});

test.run();
