/** npm run scenario as a user runs it: its exit codes, table and last line. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ROOT } from '../harness/program.ts';

const EVENT = '08:00:00 U1 from 1.1.1.1 requests login =>';
const folder = mkdtempSync(join(tmpdir(), 'otpd-scenario-test-'));

type Ended = Readonly<{ code: number | null; out: string; problems: string }>;

/** Runs the command from the source, as npm does, on a MySQL of its own. */
function run(...files: string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const parameters = ['--import', 'tsx', 'test/scenario/main.ts', ...files];
    const child = spawn(process.execPath, parameters, { cwd: ROOT });
    let out = '';
    let problems = '';
    child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString(); });
    child.stderr.on('data', (chunk: Buffer) => { problems += chunk.toString(); });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out, problems }));
  });
}

function write(name: string, ...lines: string[]): string {
  const path = join(folder, name);
  writeFileSync(path, lines.join('\n'));
  return path;
}

test('the command without a file prints its usage', async () => {
  const { code, out } = await run();
  assert.is(code, 2);
  assert.match(out, /^usage: npm run scenario -- FILE…\n/);
});

test('errors in all files are reported before the first scenario runs', async () => {
  const slip = write('slip.scenario', 'date 2026-01-05', `${EVENT} fine`);
  const { code, out, problems } = await run(join(folder, 'absent.scenario'), slip);
  assert.is(code, 2);
  assert.is(out, '');
  assert.match(problems, /absent\.scenario: cannot be read \(ENOENT\)\n/);
  assert.match(problems, /slip\.scenario:2: found "fine"; allowed here: a status such as 201/);
});

test('the command runs files on its own MySQL and exits with 1 on a difference', async () => {
  const right = `${EVENT} 201 otp_id=* ttl=300 remaining_requests=2`;
  const good = write('good.scenario', 'date 2026-01-05', right);
  const bad = write('bad.scenario', 'processes 2', 'date 2026-01-05', right, right);
  const { code, out, problems } = await run(good, bad);
  assert.is(problems, '');
  assert.is(code, 1);
  assert.match(out, /^time +event +expected +got$/m);
  assert.match(out, /bad\.scenario:4: 08:00:00 U1 from .* requests login\n +expected {2}201 /);
  assert.match(out, /\n2 passed, 1 failed\n$/);
});

test.after(() => rmSync(folder, { recursive: true, force: true }));

test.run();
