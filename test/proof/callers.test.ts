/**
 * The files of examples/call against the real service, with a fault in between: a 503 and a lost
 * answer, after which the same key gets the same code. PHP is fetched where it is missing; where Go
 * or Python is missing, the runner prints that its example is not run.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toolEnvironment } from '../../tools/mysql/command.ts';
import { newApiClients } from '../harness/api-clients.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { obtainProgram } from '../harness/debian.ts';
import { forward, loseAnswer } from '../harness/forwarding.ts';
import { answer, startHttpSink } from '../harness/http-sink.ts';
import type { HttpSink } from '../harness/http-sink.ts';
import { recordVisible } from '../harness/leak-recorder.ts';
import { canRun, works } from '../harness/not-run.ts';
import { ROOT } from '../harness/program.ts';
import { startTestService } from '../harness/service.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';

/** `go run` compiles net/http first, which takes half a minute of two cores. */
const WAIT_MAX_MS = 240_000;

type Program = Readonly<{ program: string; leading: string[]; env: Record<string, string> }>;

/** Without cgo, Go compiles a third less. */
const environment = { ...toolEnvironment(), CGO_ENABLED: '0' } as Record<string, string>;

function installed(program: string, ...leading: string[]): () => Promise<Program> {
  return async () => ({ program, leading, env: environment });
}

async function php(): Promise<Program> {
  const { program, env } = await obtainProgram({
    product: 'php', installed: ['php'], package: 'php-cli', folder: 'usr/bin',
    file: /^php\d+\.\d+$/, version: ['-n', '--version'],
  });
  return { program, leading: ['-n'], env };
}

/** [file, its program, a command that works where its language is installed]. */
const ALL: readonly (readonly [string, () => Promise<Program>, (readonly [string, string])?])[] = [
  ['otp.mjs', installed(process.execPath)],
  ['otp.py', installed('python3'), ['python3', '--version']],
  ['otp.sh', installed('sh')],
  ['otp.go', installed('go', 'run'), ['go', 'version']],
  ['otp.php', php],
];
const CALLERS = ALL.filter(([file, , version]) => version === undefined
  || canRun(file, works(...version), `${version[0]} is not installed`));

let database: TestDatabase;
let service: TestService;
let between: HttpSink;
let apiKey: string;

test.before(async () => {
  database = await createTestDatabase();
  const { apiKeys, headersOf } = newApiClients(['app']);
  apiKey = headersOf('app').Authorization!.replace('Bearer ', '');
  service = await startTestService({ pool: database.pool, apiKeys });
  between = await startHttpSink({ behaviour: forward(service.port) });
});

test.after(async () => {
  await between.close();
  await service.close();
  database.close();
});

for (const [file, find] of CALLERS) {
  test(`${file} gets a code through faults, has a wrong code refused and the right one verified`,
    async () => {
      const { program, leading, env } = await find();
      const user = `${file}@example.com`;
      between.requests.length = 0;
      between.behaveNext(answer(503, { 'Retry-After': '0' }, '{"error":"unavailable"}'),
        loseAnswer(service.port));
      const child = spawn(program, [...leading, join(ROOT, 'examples/call', file), user], {
        env: { ...env, OTPD_URL: between.url, OTPD_KEY: apiKey },
      });
      let output = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
      }
      const ended = once(child, 'close');
      try {
        const prints = (text: string) => eventually(`${file} prints ${text}`, () => {
          if (child.exitCode !== null && !output.includes(text)) throw new Error(output);
          return output.includes(text);
        }, WAIT_MAX_MS);
        await prints('sent\n');
        const sent = () => service.messages.filter(({ userId }) => userId === user);
        await eventually('one message', () => sent().length > 0);
        const { code } = sent()[0]!;
        child.stdin.write(code === '000000' ? '000001\n' : '000000\n');
        await prints('invalid_code\n');
        child.stdin.write(`${code}\n`);
        const [status] = await ended;
        assert.equal([status, output], [0, 'sent\ninvalid_code\nverified\n']);
        assert.is(sent().length, 1);
        const keys = between.requests.map(({ headers }) => headers['idempotency-key']);
        assert.is(keys.length, 5);
        assert.is(new Set(keys.slice(0, 3)).size, 1);
        assert.is(new Set(keys).size, 3);
      } finally {
        child.kill();
        recordVisible(output);
      }
    });
}

for (const [file, find] of CALLERS) {
  test(`${file} without a user prints its usage`, async () => {
    const { program, leading, env } = await find();
    for (const users of [[], ['']]) {
      const child = spawn(program, [...leading, join(ROOT, 'examples/call', file), ...users], {
        env: { ...env, OTPD_URL: between.url },
      });
      let output = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
      }
      const [status] = await once(child, 'close');
      // `go run` prints the status of the program and exits with 1.
      const [expected, rest] = file === 'otp.go' ? [1, 'exit status 2\n'] : [2, ''];
      assert.is(status, expected);
      const usage = `^usage: [a-z]+3?(?: run)? examples/call/${file} USER\n${rest}$`;
      assert.match(output, new RegExp(usage));
    }
  });
}

test('an example with a wrong API key says that it failed', async () => {
  const child = spawn(process.execPath, [join(ROOT, 'examples/call/otp.mjs'), 'U1'], {
    env: { ...environment, OTPD_URL: between.url, OTPD_KEY: 'otpd_wrong' },
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  const [status] = await once(child, 'close');
  assert.equal([status, output], [1, 'failed\n']);
});

test.run();
