/** What the README shows works as it stands there: the receivers of webhooks. */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseWebhookSecrets, signWebhook } from '../src/otp/channels/webhook-settings.ts';
import { freePort } from './harness/free-port.ts';
import { ROOT } from './harness/program.ts';
import { eventually } from './harness/waiting.ts';

const README = readFileSync(join(ROOT, 'README.md'), 'utf8');
const SECRET = `whsec_${randomBytes(32).toString('base64')}`;
const OTHER = `whsec_${randomBytes(32).toString('base64')}`;
const BODY = JSON.stringify({ type: 'otp.issued', data: { user_id: 'Zoë' } });
const NOW = Math.floor(Date.now() / 1000);

/** The code block below the name of a file, without its indentation. */
function blockOf(file: string): string {
  const pattern = `\`${file}\`, for .*\\n\\n   \`\`\`\\w+\\n([^]*?)\\n   \`\`\``;
  const block = new RegExp(pattern).exec(README);
  if (block === null) throw new Error(`the README has no ${file}`);
  return block[1]!.replace(/^ {3}/gm, '');
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => resolve(false)).on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

type Signed = Readonly<{ secrets?: string; sentAt?: number; body?: string }>;

/** Posts what was signed; perhaps another body than that. */
async function postTo(port: number, signed: Signed): Promise<number> {
  const { secrets = SECRET, sentAt = NOW, body = BODY } = signed;
  const parsed = parseWebhookSecrets(secrets);
  if ('errors' in parsed) throw new Error(parsed.errors.join('\n'));
  const { status } = await fetch(`http://127.0.0.1:${port}/`, {
    method: 'POST',
    body,
    headers: {
      'webhook-id': 'a1',
      'webhook-timestamp': String(sentAt),
      'webhook-signature': signWebhook(parsed.secrets, 'a1', String(sentAt), BODY),
    },
  });
  return status;
}

/** [program, file]; Python is not on every machine. */
const RECEIVERS = [[process.execPath, 'receiver.mjs'], ['python3', 'receiver.py']] as const;

for (const [program, file] of RECEIVERS) {
  test(`${file} takes what is signed, and nothing else`, async () => {
    const text = blockOf(file);
    if (spawnSync(program, ['--version']).error !== undefined) return;
    const folder = mkdtempSync(join(tmpdir(), 'otpd-readme-'));
    const port = await freePort();
    assert.match(text, '8080');
    writeFileSync(join(folder, file), text.replace('8080', String(port)));
    const child = spawn(program, [join(folder, file)], {
      env: { PATH: process.env.PATH, SECRET, PYTHONIOENCODING: 'utf8' } as NodeJS.ProcessEnv,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString(); });
    try {
      await eventually(`${file} listens`, () => isListening(port));
      const refused: Signed[] = [
        { secrets: OTHER },
        { body: BODY.replace('Z', 'z') },
        { sentAt: NOW - 330 },
        { sentAt: NOW + 330 },
      ];
      for (const signed of refused) assert.is(await postTo(port, signed), 403);
      assert.is(output, '');
      for (const secrets of [SECRET, `${OTHER},${SECRET}`]) {
        assert.is(await postTo(port, { secrets, sentAt: NOW - 270 }), 204);
      }
      await eventually('two messages', () => output.split('Zoë').length === 3);
    } finally {
      child.kill();
      rmSync(folder, { recursive: true });
    }
  });
}

test.run();
