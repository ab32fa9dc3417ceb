#!/usr/bin/env node
/** otpd: the command line. */
import type { Environment } from './config-reader.ts';
import { readConfig, readEnvironment, readServeConfig } from './config.ts';
import type { Config } from './config.ts';
import { createDatabase } from './db/create-database.ts';
import { migrate } from './db/migrate.ts';
import { joinDatabase } from './open-database.ts';
import { isOperation, operate } from './operate.ts';
import { serve } from './serve.ts';
import { listenForStop, Stopped } from './stop-signals.ts';
import { report, say } from './terminal.ts';
import { help, refuse } from './usage.ts';
import { isWorker } from './workers.ts';

async function migrateDatabase(config: Config, stop: AbortSignal): Promise<number> {
  const { settings, pool, close } = await joinDatabase(config, stop);
  try {
    await createDatabase(settings);
    const count = await migrate(pool, say);
    say(count === 0 ? 'the database is up to date' : `${count} schema files applied`);
    return 0;
  } finally {
    await close();
  }
}

type Command = (environment: Environment, stop: AbortSignal) => Promise<number>;

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', (environment, stop) => serve(readServeConfig(environment), stop)],
  ['migrate', (environment, stop) => migrateDatabase(readConfig(environment), stop)],
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
