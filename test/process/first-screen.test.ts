/** The first screen of the README and the other curl commands answer as the pages show. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { newDatabaseName, serverSocket } from '../harness/database.ts';
import { commandsOf, readPage, readPages } from '../harness/markdown.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { COMPILED, ROOT, SHELL } from '../harness/program.ts';
import { recordVisible } from '../harness/leak-recorder.ts';
import { eventually } from '../harness/waiting.ts';

const README = readPage('README.md');
const SHOWN_PORT = '127.0.0.1:3000';
const SHOWN_ADMIN = '127.0.0.1:9464';
const SHOWN_CODE = '736581';
const MESSAGE = /^message to U1: \d{6} is your code\. .*\n/m;

const environment = {
  DB_SOCKET: serverSocket(), DB_USER: 'root', DB_NAME: newDatabaseName(),
  OTP_SECRETS: `k1:${randomBytes(32).toString('base64')}`,
};
let otpd: Otpd;

test.before(async () => {
  const migrated = execFileSync(process.execPath, [...COMPILED, 'migrate'], {
    cwd: ROOT, encoding: 'utf8', env: { ...SHELL, ...environment } as NodeJS.ProcessEnv,
  });
  const applied = (text: string) => text.match(/^schema \S+ to \S+: applying$/gm);
  assert.equal(applied(migrated), applied(README.blocks.join('')));
  otpd = await startOtpd({ ...environment, PORT: '0' });
});
test.after(async () => {
  otpd.stop();
  await otpd.ended;
});

/** Replaces values that differ between runs. */
function normalized(text: string): string {
  return text.replaceAll('\r', '').replaceAll(/[0-9a-f-]{36}/g, 'UUID')
    .replaceAll(/[0-9a-f]{32}/g, 'OTP_ID').replaceAll(/^Date: .*$/gm, 'Date')
    .trimEnd();
}

/** Runs a command of the README in a shell. */
function run(command: string, code: string): string {
  const line = command.replace('curl', 'curl -sS').replace(SHOWN_PORT, `127.0.0.1:${otpd.port}`)
    .replace(SHOWN_ADMIN, `127.0.0.1:${otpd.adminPort}`).replace(SHOWN_CODE, code);
  const output = execFileSync('sh', ['-c', line], { encoding: 'utf8' });
  recordVisible(output);
  return output;
}

test('a code is requested and verified by the commands of the README, with its output',
  async () => {
    const session = README.blocks.flatMap(commandsOf)
      .filter(({ command }) => command.startsWith('curl'));
    assert.is(session.length, 3);
    const [request, ...verifications] = session;
    assert.is(normalized(run(request!.command, '')), normalized(request!.output));
    await eventually('the message is printed', () => otpd.codes().length === 1);
    const [code = ''] = otpd.codes();
    for (const { command, output } of verifications) {
      assert.ok(command.includes(SHOWN_CODE));
      assert.is(normalized(run(command, code)), normalized(output));
    }
    const [shown] = MESSAGE.exec(README.blocks.join(''))!;
    const [printed] = MESSAGE.exec(otpd.output())!;
    assert.is(printed.replace(code, SHOWN_CODE), shown);
  });

/** The members of the JSON body at the end of an output; empty without a body. */
function membersOf(output: string): string[] {
  const body = /^\{.*\}$/.exec(output.trimEnd().split('\n').at(-1) ?? '')?.[0] ?? '{}';
  return Object.keys(JSON.parse(body) as object);
}

test('every curl command of docs/ succeeds, with the members that it shows', async () => {
  const session = readPages().filter(({ path }) => path.startsWith('docs/'))
    .flatMap(({ blocks }) => blocks.flatMap(commandsOf))
    .filter(({ command }) => command.startsWith('curl'));
  assert.ok(session.length >= 4);
  for (const { command, output } of session) {
    const printed = otpd.codes().length;
    const members = membersOf(run(command, otpd.codes().at(-1) ?? ''));
    if (command.includes('/otp/request')) {
      await eventually('the message is printed', () => otpd.codes().length > printed);
    }
    assert.not(members.includes('error'), command);
    assert.ok(members.length > 0, command);
    if (membersOf(output).length > 0) assert.equal(members, membersOf(output), command);
  }
});

test('the command that otpd prints at its start is the one of the README', () => {
  const command = /curl -i [^]*?"purpose":"login"\}'/;
  const [printed] = command.exec(otpd.output())!;
  const [shown] = command.exec(README.blocks[0]!)!;
  assert.is(printed.replace(`127.0.0.1:${otpd.port}`, SHOWN_PORT), shown);
});

test.run();
