/**
 * Runs an otpd command in a working copy: `tools/dev.ts [--watch] COMMAND [ARGUMENT…]`. Without
 * DB_HOST and DB_SOCKET the command gets a MySQL for development, which is fetched when the
 * machine has none.
 */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { EnvReader, PORT_MAX } from '../src/app/config/env-reader.ts';
import type { Environment } from '../src/app/config/env-reader.ts';
import { readConfig, readEnvironment, readServeConfig } from '../src/app/config/config.ts';
import { readDatabaseName } from '../src/app/config/database.ts';
import { randomSecret } from '../src/otp/crypto/secrets.ts';
import { Stopped } from '../src/app/process/shutdown.ts';
import { printError, reportError, print } from '../src/app/output.ts';
import { checkPorts } from '../src/app/serve.ts';
import { createAccount, createMigrated, rootSettings } from './database.ts';
import { MysqlServerError } from './mysql/error.ts';
import { superviseMysqlServer } from './mysql/server.ts';
import type { SupervisedServer } from './mysql/server.ts';
import { readMysqlSettings } from './mysql/settings.ts';
import type { MysqlSettings } from './mysql/settings.ts';
import { findRunningServer } from './mysql/socket-path.ts';
import { hookAt, MAIN, OtpdProcess } from './otpd-process.ts';
import type { RunOptions } from './otpd-process.ts';
import { readOrCreateSecretFile } from './secret-file.ts';
import { CLOCK_VARIABLE, openTryOut, PAGE_VARIABLE } from './try-out/listener.ts';
import type { TryOut } from './try-out/listener.ts';

/** The commands that create a database where there is none. */
const CREATING: ReadonlySet<string> = new Set(['serve', 'migrate']);

/** The commands that use a database only when it exists. */
const USING: ReadonlySet<string> = new Set(['doctor', 'show', 'unlock', 'revoke', 'cancel']);

/** The decisions that precede the start of a process. */
type Plan = Readonly<{
  command: string;
  environment: Environment;
  mysql: MysqlSettings;
  databaseName: string;
  /** Progress goes to standard error where standard output is the result of the command. */
  progress: (line: string) => void;
}>;

async function main(given: readonly string[]): Promise<void> {
  const isWatched = given[0] === '--watch';
  const parameters = isWatched ? given.slice(1) : given;
  const environment = readEnvironment();
  if (environment.npm_lifecycle_event !== undefined) endWithParent();
  const mysql = readMysqlSettings(environment);
  const needsMysql = !hasDatabase(environment) && canUseMysql(parameters, mysql);
  if (needsMysql || isWatched) {
    process.exitCode = await runAsChild(parameters, { isWatched, needsMysql, environment, mysql });
    return;
  }
  // Nothing has to be prepared: this process becomes otpd.
  process.argv.splice(1, process.argv.length, MAIN, ...parameters);
  await import('../src/main.ts');
}

/** How often a process looks whether npm still runs. */
const PARENT_POLL_MS = 500;

/**
 * npm passes SIGINT and SIGTERM on. Any other signal that ends it, such as SIGHUP when its terminal
 * is closed, would leave otpd running on its port.
 */
function endWithParent(): void {
  const { ppid } = process;
  const timer = setInterval(() => {
    if (process.ppid === ppid) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, PARENT_POLL_MS);
  timer.unref();
}

function hasDatabase(environment: Environment): boolean {
  const reader = new EnvReader(environment);
  return reader.text('DB_HOST') !== undefined || reader.text('DB_SOCKET') !== undefined;
}

function canUseMysql(
  [command = '', ...rest]: readonly string[],
  { folder }: MysqlSettings,
): boolean {
  // serve and migrate take no arguments, and report any without a database.
  return (CREATING.has(command) && rest.length === 0)
    || (USING.has(command) && existsSync(join(folder, 'data')));
}

type ChildOptions = Readonly<{
  isWatched: boolean;
  needsMysql: boolean;
  environment: Environment;
  mysql: MysqlSettings;
}>;

/** Returns the exit code of this process. */
async function runAsChild(
  parameters: readonly string[],
  { isWatched, needsMysql, environment, mysql }: ChildOptions,
): Promise<number> {
  const [command = ''] = parameters;
  const progress = CREATING.has(command) ? print : printError;
  const otpd = new OtpdProcess(parameters);
  const run = (options: RunOptions): Promise<number> =>
    (isWatched ? otpd.runWatched(options, progress) : otpd.run(options));
  try {
    if (!needsMysql) return await run({ variables: {} });
    const databaseName = readName(environment);
    const plan = { command, environment, mysql, databaseName, progress };
    await checkConfiguration(plan);
    return await runOnMysql(plan, otpd, run);
  } catch (error) {
    // A start that a signal aborts is a clean end of `serve`, and a failure of any other command.
    if (error instanceof Stopped) return command === 'serve' ? 0 : 1;
    if (error instanceof MysqlServerError) printError(`otpd: ${error.message}`);
    else reportError(error);
    return 1;
  }
}

/** Starts or joins MySQL, runs otpd on it, and stops MySQL after otpd has ended. */
async function runOnMysql(
  plan: Plan,
  otpd: OtpdProcess,
  run: (options: RunOptions) => Promise<number>,
): Promise<number> {
  const server = await openServer(plan, otpd.stop);
  let tryOut: TryOut | null = null;
  try {
    const account = await prepare(plan, server.socketPath);
    const clockFile = clockFileIn(plan.mysql);
    tryOut = await openPage(plan, clockFile);
    const page = tryOut === null ? {} : { [PAGE_VARIABLE]: tryOut.url };
    const running = run({
      variables: { ...account, ...page, [CLOCK_VARIABLE]: clockFile },
      hooks: [hookAt('try-out/hook')],
      ...(tryOut === null ? {} : { onReport: tryOut.onReport }),
    });
    return await Promise.race([running, server.failed]);
  } finally {
    await otpd.end();
    tryOut?.close();
    await server.stop();
  }
}

/** Moves the clock of every command on this MySQL while the try-out page is open. */
function clockFileIn({ folder }: MysqlSettings): string {
  return join(folder, 'clock');
}

/** The page shows codes, so it exists in development only. */
async function openPage(
  { command, environment }: Plan,
  clockFile: string,
): Promise<TryOut | null> {
  const reader = new EnvReader(environment);
  if (command !== 'serve' || reader.text('NODE_ENV') === 'production') return null;
  const port = Number(reader.text('PORT') ?? 3000);
  const isNextTaken = port === 0 || port === PORT_MAX
    || reader.text('ADMIN_PORT') === String(port + 1);
  return openTryOut({ port: isNextTaken ? 0 : port + 1, clockFile });
}

/**
 * Joins the server that another command of this project runs, or starts one. `serve` needs a server
 * of its own, because a joined server would end with the other command.
 *
 * @throws MysqlServerError when there is no usable MySQL, or `serve` runs already
 */
async function openServer(
  { command, mysql, progress }: Plan,
  signal: AbortSignal,
): Promise<SupervisedServer> {
  const socketPath = command === 'serve' ? null : await findRunningServer(mysql.folder);
  if (socketPath !== null) {
    return { socketPath, failed: new Promise<never>(() => {}), stop: async () => {} };
  }
  progress('DB_HOST and DB_SOCKET are not set: using a development MySQL.');
  // A listener that was killed may have left it.
  rmSync(clockFileIn(mysql), { force: true });
  return superviseMysqlServer({ ...mysql, durable: true, print: progress, signal });
}

/** Returns the variables that otpd gets: the database, its account and the secrets. */
async function prepare(
  { command, environment, mysql, databaseName, progress }: Plan,
  socketPath: string,
): Promise<Readonly<Record<string, string>>> {
  const settings = rootSettings(socketPath, databaseName);
  if (command === 'serve') await createMigrated(settings, progress);
  const account = await createAccount(settings);
  if (hasSecrets(environment)) return account;
  const path = join(mysql.folder, 'secrets');
  readOrCreateSecretFile(path);
  // The environment of a process is easier to read than its files.
  return { ...account, OTP_SECRETS_FILE: path };
}

function hasSecrets(environment: Environment): boolean {
  return new EnvReader(environment).hasSecret('OTP_SECRETS');
}

function readName(environment: Environment): string {
  const reader = new EnvReader(environment);
  const name = readDatabaseName(reader);
  reader.throwErrors();
  return name;
}

/** Reports a configuration error before anything is fetched, created or started for it. */
async function checkConfiguration(
  { command, environment, databaseName }: Plan,
): Promise<void> {
  const whole = {
    ...environment, DB_SOCKET: 'unknown', DB_USER: 'unknown', DB_NAME: databaseName, DB_TLS_CA: '',
    ...(hasSecrets(environment) ? {} : { OTP_SECRETS: randomSecret('unused') }),
  };
  if (command === 'serve') await checkPorts(readServeConfig(whole));
  else if (command !== 'doctor') readConfig(whole);
}

await main(process.argv.slice(2));
