/**
 * The abuse suite: attacks an installation of otpd, within a bounded number of messages, and prints
 * what it found. Exit codes: 0 nothing, 1 a finding, 2 a wrong command line or no answer.
 */
import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';
import type { Result } from './check.ts';
import { runSuite } from './suite.ts';
import { Target } from './target.ts';
import type { Options } from './target.ts';

const USAGE = `Usage: npm run abuse -- URL [OPTION…]

Attacks the otpd at URL: races, limits, forged headers, malformed requests. It requests
codes for made-up users, so give it an installation or a purpose made for the test.

  --purpose NAME          the purpose of the codes (abuse)
  --user TEMPLATE         the users; {n} becomes a number (abuse{n}@example.invalid)
  --messages N            the most codes that are requested (60)
  --digits N              the length of a code (6)
  --code-command COMMAND  a shell command that prints the newest code of $OTPD_USER

OTPD_API_KEY is the API key, with the scopes request, verify and read. Without it the
limit per client IP leaves room for few checks.`;

const NUMBER = /^[1-9]\d{0,4}$/;

/** @throws Error with what is wrong with the command line */
function readOptions(parameters: readonly string[], apiKey: string | undefined): Options {
  const { values, positionals: [url = '', ...more] } = parseArgs({
    args: [...parameters],
    allowPositionals: true,
    options: {
      'purpose': { type: 'string', default: 'abuse' },
      'user': { type: 'string', default: 'abuse{n}@example.invalid' },
      'messages': { type: 'string', default: '60' },
      'digits': { type: 'string', default: '6' },
      'code-command': { type: 'string' },
    },
  });
  const command = values['code-command'];
  if (!/^https?:/.test(url) || !URL.canParse(url) || more.length > 0) {
    throw new Error('one URL is needed, such as http://127.0.0.1:3000');
  }
  for (const name of ['messages', 'digits'] as const) {
    if (!NUMBER.test(values[name])) throw new Error(`--${name} must be a whole number from 1`);
  }
  if (!values.user.includes('{n}')) throw new Error('--user must contain {n}');
  return {
    url: new URL(url),
    apiKey: apiKey ?? null,
    purpose: values.purpose,
    user: values.user,
    readCode: command === undefined ? null : (user) => runCodeCommand(command, user),
    codeDigits: Number(values.digits),
    messagesMax: Number(values.messages),
  };
}

/** Why nothing can be checked, or null. */
async function findObstacle(target: Target): Promise<string | null> {
  try {
    const { status } = await target.verify({ user: target.newUser(), code: target.randomCode() });
    return status !== 401 && status !== 403 ? null
      : `the answer is ${status}; set OTPD_API_KEY to a key with the scopes request, verify and`
        + ` read, for the purpose ${target.options.purpose}`;
  } catch (error) {
    return `${(error as Error).message}; check the URL, and that otpd runs`;
  }
}

async function runCodeCommand(command: string, user: string): Promise<string> {
  const environment = { ...process.env, OTPD_USER: user };
  const { stdout } = await promisify(execFile)('sh', ['-c', command], { env: environment });
  return stdout;
}

function toTable(results: readonly Result[]): string {
  const width = Math.max(...results.map(({ name }) => name.length));
  return results.map(({ name, kind, detail }) =>
    `${name.padEnd(width)}  ${kind.padEnd('FINDING'.length)}  ${detail}`).join('\n');
}

function countOf(results: readonly Result[], kind: Result['kind']): number {
  return results.filter((result) => result.kind === kind).length;
}

async function main(parameters: readonly string[]): Promise<number> {
  let options: Options;
  try {
    options = readOptions(parameters, process.env.OTPD_API_KEY);
  } catch (error) {
    const reason = parameters.length === 0 ? '' : `abuse: ${(error as Error).message}\n`;
    process.stderr.write(`${reason}${USAGE}\n`);
    return 2;
  }
  const target = new Target(options);
  const obstacle = await findObstacle(target);
  if (obstacle !== null) {
    process.stderr.write(`abuse: ${options.url.origin}: ${obstacle}\n`);
    target.close();
    return 2;
  }
  const results = await runSuite(target);
  target.close();
  const findings = countOf(results, 'FINDING');
  process.stdout.write(`${toTable(results)}\n\n${results.length} checks: `
    + `${countOf(results, 'ok')} ok, ${findings} with a finding, `
    + `${countOf(results, 'not run')} not run. ${target.messages} codes were requested.\n`);
  return findings === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
