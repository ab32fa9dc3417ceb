/** Runs a command of otpd in its own process until it exits, as a user does. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createMigrated, newDatabaseName, serverSocket, settingsFor } from './database.ts';
import { COMPILED, ROOT, SHELL } from './program.ts';
import { recordVisible } from './leak-recorder.ts';

const TIMEOUT_MS = 120_000;

export type CommandResult = Readonly<{ status: number | null; out: string; err: string }>;

export type Variables = Readonly<Record<string, string>>;

export async function runCommand(
  parameters: readonly string[],
  variables: Variables = {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, [...COMPILED, ...parameters], {
    cwd: ROOT, env: { ...SHELL, ...variables } as NodeJS.ProcessEnv, timeout: TIMEOUT_MS,
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString(); });
  child.stderr.on('data', (chunk: Buffer) => { err += chunk.toString(); });
  const [status] = await once(child, 'close') as [number | null];
  recordVisible(out + err);
  return { status, out, err };
}

/** The one JSON object that a command printed. */
export function objectOf({ out }: CommandResult): Record<string, unknown> {
  if (out.split('\n').length !== 2) throw new Error(`not one line: ${out}`);
  return JSON.parse(out) as Record<string, unknown>;
}

/** Variables for a database of the test server, with new secrets. */
export function variablesFor(database: string, more: Variables = {}): Variables {
  const secrets = `k1:${randomBytes(32).toString('base64')}`;
  return { DB_SOCKET: serverSocket(), DB_USER: 'root', DB_NAME: database, OTP_SECRETS: secrets,
    ...more };
}

/** Variables for a new, migrated database of the test server. */
export async function newVariables(more: Variables = {}): Promise<Variables> {
  const name = newDatabaseName();
  (await createMigrated(settingsFor(name))).close();
  return variablesFor(name, more);
}
