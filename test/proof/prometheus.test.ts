/**
 * A real Prometheus: promtool tests the rules, and a server that scrapes otpd under load has data
 * for every expression of the rules and of the dashboard. It is fetched from Debian if it is not
 * installed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runCommand } from '../../tools/mysql/command.ts';
import { closeClient, post } from '../harness/client.ts';
import { newVariables } from '../harness/command.ts';
import { obtainProgram } from '../harness/debian.ts';
import type { Launch } from '../harness/debian.ts';
import {
  dashboardExpressions, readRules, RULES, RULE_TESTS,
} from '../harness/expressions.ts';
import { freePort } from '../harness/free-port.ts';
import { GENEROUS_POLICY } from '../harness/otpd-on.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { ROOT } from '../harness/program.ts';
import { eventually } from '../harness/waiting.ts';
import { decided, fresh, wrongCode } from './load.ts';

/** Ten seconds of one core on an idle machine: some tests span a day. */
const RULE_TESTS_MAX_MS = 300_000;
const DATA_MAX_MS = 180_000;

let promtool: Launch;

test.before(async () => {
  promtool = await obtainProgram({
    product: 'prometheus', installed: ['promtool'], package: 'prometheus', folder: 'usr/bin',
    file: /^promtool$/, version: ['--version'],
  });
});
test.after(closeClient);

test('promtool accepts the rules, and each alert fires and is silent as its tests say',
  async () => {
    const { program, env } = promtool;
    for (const parameters of [['check', 'rules', RULES], ['test', 'rules', RULE_TESTS]]) {
      const files = parameters.map((name) => (name.includes('/') ? join(ROOT, name) : name));
      const end = await runCommand(program, files,
        { timeoutMs: RULE_TESTS_MAX_MS, environment: env });
      assert.ok(end.succeeded, end.output);
    }
  });

type Prometheus = Readonly<{
  /** The data of an answer of the API. */
  get: (path: string, query?: string) => Promise<Record<string, unknown>>;
  output: () => string;
  stop: () => Promise<void>;
}>;

/** Starts Prometheus with the rules and one target, which it scrapes every second. */
async function startPrometheus(adminPort: number): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-prometheus-'));
  const file = join(folder, 'prometheus.yml');
  writeFileSync(file, `global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: ['${join(ROOT, RULES)}']
scrape_configs:
  - job_name: otpd
    static_configs:
      - targets: ['127.0.0.1:${adminPort}']
`);
  const port = await freePort();
  const child = spawn(join(dirname(promtool.program), 'prometheus'), [
    `--config.file=${file}`, `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ], { cwd: folder, env: promtool.env, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  const ended = once(child, 'close');
  const get: Prometheus['get'] = async (path, query) => {
    const body = query === undefined ? null : new URLSearchParams({ query });
    const reply = await fetch(`http://127.0.0.1:${port}${path}`,
      { method: body === null ? 'GET' : 'POST', body });
    const { status, data, error } = await reply.json() as {
      status: string; data: Record<string, unknown>; error?: string;
    };
    if (status !== 'success') throw new Error(`${error}: ${query ?? path}`);
    return data;
  };
  await eventually('Prometheus is ready', async () => {
    if (child.exitCode !== null) throw new Error(`Prometheus has ended: ${output}`);
    return fetch(`http://127.0.0.1:${port}/-/ready`).then(({ ok }) => ok, () => false);
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { get, output: () => output, stop };
}

/** A code for a new user, a wrong attempt and the right one. */
async function requestAndVerify({ port, codes }: Otpd): Promise<void> {
  const [user, before] = [fresh('u'), codes().length];
  const body = { user_id: user, purpose: 'login' };
  const key = fresh('k');
  await decided(() => post({ port, path: '/otp/request', key, body }));
  await eventually('a code is printed', () => codes().length > before);
  const code = codes().at(-1)!;
  for (const tried of [wrongCode(code), code]) {
    await post({ port, path: '/otp/verify', body: { ...body, code: tried } });
  }
}

/** What the rules compute: an alert without traffic has no result, but what it compares has. */
function ruleExpressions(): string[] {
  return readRules().flatMap(({ record, expr }) =>
    (record === undefined ? expr.split(/\s+(?:and|>|==)\s+/) : [record, expr]));
}

test('a Prometheus that scrapes otpd under load has data for every rule and every panel',
  async () => {
    const otpd = await startOtpd(await newVariables({
      WORKERS: '2', POLICY_FILE: GENEROUS_POLICY,
    }));
    try {
      const prometheus = await startPrometheus(otpd.adminPort);
      try {
        for (const expr of [...ruleExpressions(), ...dashboardExpressions()]) {
          await eventually(`data for ${expr}`, async () => {
            await requestAndVerify(otpd);
            const { result } = await prometheus.get('/api/v1/query', expr);
            return (result as unknown[]).length > 0;
          }, DATA_MAX_MS);
        }
        const { groups } = await prometheus.get('/api/v1/rules') as {
          groups: { rules: { name: string; health: string }[] }[];
        };
        const rules = groups.flatMap((group) => group.rules);
        assert.is(rules.length, readRules().length);
        assert.equal(rules.filter(({ health }) => health !== 'ok'), []);
      } finally {
        await prometheus.stop();
      }
    } finally {
      otpd.stop();
      assert.is(await otpd.ended, 0);
    }
  });

test.run();
