#!/usr/bin/env node
/** otpd: the command line. */
import { help, isOperation, operate, refuse } from './app/cli/commands.ts';
import { readConfig, readEnvironment, readServeConfig } from './app/config/config.ts';
import type { Config } from './app/config/config.ts';
import type { Environment } from './app/config/env-reader.ts';
import { openPool } from './app/database.ts';
import { report, print } from './app/output.ts';
import { listenForStop, Stopped } from './app/process/shutdown.ts';
import { isWorker } from './app/process/workers.ts';
import { serve } from './app/serve.ts';
import { createDatabase, migrate } from './db/migrate.ts';

async function migrateDatabase(config: Config): Promise<number> {
  const pool = openPool(config);
  try {
    await createDatabase(config.database);
    const count = await migrate(pool, print);
    print(count === 0 ? 'the database is up to date' : `${count} schema files applied`);
    return 0;
  } finally {
    pool.close();
  }
}

type Command = (environment: Environment, stop: AbortSignal) => Promise<number>;

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', (environment, stop) => serve(readServeConfig(environment), stop)],
  ['migrate', (environment) => migrateDatabase(readConfig(environment))],
]);

async function main([name = 'help', ...rest]: readonly string[]): Promise<number> {
  if (['help', '--help', '-h'].includes(name)) return help();
  if (isOperation(name)) return operate(name, rest);
  const command = COMMANDS.get(name);
  if (command === undefined) return refuse(`there is no command ${JSON.stringify(name)}`);
  if (rest.length > 0) return refuse(`${name} takes no arguments`);
  try {
    return await command(readEnvironment(), listenForStop());
  } catch (error) {
    if (error instanceof Stopped) return 0;
    report(error);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
// The channel to the first process would keep it alive.
if (isWorker()) process.exit();
