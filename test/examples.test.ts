/** The receivers of webhooks in examples/ work as they are. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { freePort } from './harness/free-port.ts';
import { canRun, works } from './harness/not-run.ts';
import { ROOT } from './harness/program.ts';
import { eventually } from './harness/waiting.ts';

const SECRET = `whsec_${randomBytes(32).toString('base64')}`;
const OTHER = `whsec_${randomBytes(32).toString('base64')}`;
const BODY = JSON.stringify({ type: 'otp.issued', data: { user_id: 'Zoë' } });
const NOW = Math.floor(Date.now() / 1000);

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => resolve(false)).on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

type Signed = Readonly<{ secrets?: readonly string[]; sentAt?: number; body?: string }>;

/** Posts a body with signatures of BODY. */
async function postTo(port: number, signed: Signed): Promise<number> {
  const { secrets = [SECRET], sentAt = NOW, body = BODY } = signed;
  const signatures = secrets.map((secret) =>
    new Webhook(secret).sign('a1', new Date(sentAt * 1000), BODY));
  const { status } = await fetch(`http://127.0.0.1:${port}/`, {
    method: 'POST',
    body,
    headers: {
      'webhook-id': 'a1',
      'webhook-timestamp': String(sentAt),
      'webhook-signature': signatures.join(' '),
    },
  });
  return status;
}

/** [program, file]; Python is not on every machine. */
const RECEIVERS = ([
  [process.execPath, 'webhook-receiver.mjs'], ['python3', 'webhook-receiver.py'],
] as const).filter(([program, file]) =>
  canRun(file, works(program, '--version'), `${program} is not installed`));

for (const [program, file] of RECEIVERS) {
  test(`${file} accepts a signed message and refuses every other`, async () => {
    const port = await freePort();
    const child = spawn(program, [join(ROOT, 'examples', file)], {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, SECRET, PORT: String(port),
        PYTHONIOENCODING: 'utf8' } as NodeJS.ProcessEnv,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString(); });
    try {
      await eventually(`${file} listens`, () => isListening(port), 30_000);
      const refused: Signed[] = [
        { secrets: [OTHER] },
        { body: BODY.replace('Z', 'z') },
        { sentAt: NOW - 330 },
        { sentAt: NOW + 330 },
      ];
      for (const signed of refused) assert.is(await postTo(port, signed), 403);
      assert.is(output, '');
      for (const secrets of [[SECRET], [OTHER, SECRET]]) {
        assert.is(await postTo(port, { secrets, sentAt: NOW - 270 }), 204);
      }
      await eventually('two messages', () => output.split('Zoë').length === 3);
    } finally {
      child.kill();
    }
  });
}

/** The status and the output of a receiver that does not start. */
async function failureOf(
  program: string,
  file: string,
  variables: Readonly<Record<string, string>>,
): Promise<unknown[]> {
  const child = spawn(program, [join(ROOT, 'examples', file)], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, PYTHONIOENCODING: 'utf8',
      ...variables } as NodeJS.ProcessEnv,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
  }
  try {
    const [status] = await once(child, 'close');
    return [status, output];
  } finally {
    child.kill();
  }
}

for (const [program, file] of RECEIVERS) {
  test(`${file} prints its usage without a secret, and names PORT if it is taken`, async () => {
    const name = file.endsWith('.mjs') ? 'node' : program;
    for (const variables of [{}, { SECRET: '' }, { SECRET: 'whsec_a' }]) {
      assert.equal(await failureOf(program, file, variables),
        [2, `usage: SECRET=whsec_… ${name} examples/${file}\n`]);
    }
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    for (const PORT of [String(port), 'x', '65536']) {
      const [status, output] = await failureOf(program, file, { SECRET, PORT });
      assert.is(status, 1);
      assert.match(String(output), /^[^\n]+; set PORT to a free port\n$/);
    }
    taken.close();
  });
}

test.run();
