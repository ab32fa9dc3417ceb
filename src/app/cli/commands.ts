/** The command table of otpd. The help text and the check of the arguments come from it. */
import { parseArgs } from 'node:util';
import { previewMessages } from '../channels.ts';
import {
  readConfig, readEnvironment, readMessageConfig, readServeConfig,
} from '../config/config.ts';
import type { Config } from '../config/config.ts';
import type { Environment } from '../config/env-reader.ts';
import { remarksOn } from '../config/remarks.ts';
import { migrateDatabase, openMigrated } from '../database.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import { runDoctor } from './doctor/doctor.ts';
import { DEFAULT_SCOPES, makeKey, newSecret } from './keys.ts';
import {
  isOperationalError, isOutputTerminal, messageOf, print, printError, reportError, UsageError,
} from '../output.ts';
import type { Report } from '../output.ts';
import { listenForStop, Stopped } from '../process/shutdown.ts';
import { isWorker } from '../process/workers.ts';
import { serve } from '../serve.ts';
import { cancel, checkDevice, checkOtpId, revoke, show, unlock } from './support.ts';
import { suggestion } from '../../otp/policy/names.ts';

/** Runs a command with the arguments after its name, and returns the exit code. */
type Run = (command: Command, rest: readonly string[]) => Promise<number>;

type Command = Readonly<{
  name: string;
  /** Capitals stand for a value, brackets for an optional value, lower case for itself. */
  arguments: string;
  help: string;
  run: Run;
}>;

const COMMANDS: readonly Command[] = [
  {
    name: 'serve',
    arguments: '',
    help: 'answer requests',
    run: asProcess((environment, stop) => {
      const config = readServeConfig(environment);
      if (!isWorker()) printRemarks(environment);
      return serve(config, stop);
    }),
  },
  {
    name: 'migrate',
    arguments: '',
    help: 'bring the database to the current schema',
    run: asProcess((environment) => migrateDatabase(readConfig(environment))),
  },
  {
    name: 'doctor',
    arguments: '',
    help: 'check Node.js, the configuration, the channels, MySQL and the schema',
    run: asReport(runDoctor),
  },
  {
    name: 'show',
    arguments: 'USER',
    help: 'limits, locks, wrong attempts and OTPs of a user',
    run: asReport((userId) =>
      withDatabase((pool, { policies, secrets, log: { isRaw } }) =>
        show({ pool, policies, secrets, isRaw }, userId))),
  },
  {
    name: 'unlock',
    arguments: 'USER [PURPOSE]',
    help: 'end the locks of a user, or of one purpose, and reset the wrong attempts',
    run: asReport((userId, ...[purpose]) =>
      withDatabase((pool, { policies, secrets, log: { isRaw } }) =>
        unlock({ pool, policies, secrets, isRaw }, userId, purpose ?? null))),
  },
  {
    name: 'revoke',
    arguments: 'USER [DEVICE]',
    help: 'stop trusting the devices of a user, or one of them',
    run: asReport((userId, ...[device]) => {
      if (device !== undefined) checkDevice(device);
      return withDatabase((pool, { policies, secrets, log: { isRaw } }) =>
        revoke({ pool, policies, secrets, isRaw }, userId, device ?? null));
    }),
  },
  {
    name: 'cancel',
    arguments: 'OTP_ID',
    help: 'cancel an OTP',
    run: asReport((otpId) => {
      checkOtpId(otpId);
      return withDatabase((pool, { secrets }) => cancel({ pool, secrets }, otpId));
    }),
  },
  {
    name: 'preview',
    arguments: 'PURPOSE LOCALE',
    help: 'what each channel would send, with a sample code',
    run: asReport((purpose, locale) => {
      const { delivery, policies } = readMessageConfig(readEnvironment());
      return previewMessages(delivery, policies, purpose, locale);
    }),
  },
  {
    name: 'secret',
    arguments: 'new [ID]',
    help: 'create a server secret for OTP_SECRETS',
    run: asReport(newSecret, 'text'),
  },
  {
    name: 'key',
    arguments: 'new NAME [SCOPES] [RESTRICTION] [RESTRICTION]',
    help: `create an API key (default scopes: ${DEFAULT_SCOPES})`,
    run: asReport(makeKey, 'text'),
  },
  { name: 'help', arguments: '', help: 'list the commands', run: async () => printHelp() },
];

const HELP_OPTIONS: readonly string[] = ['--help', '-h'];

const WRONG_USAGE = 2;

/**
 * Runs a command line to its end.
 *
 * @returns the exit code: 0 done, 1 not done, 2 invalid command line
 */
export async function runCommandLine(
  [given = 'help', ...rest]: readonly string[],
): Promise<number> {
  const asksForHelp = [given, ...rest.slice(0, 1)].some((each) => HELP_OPTIONS.includes(each));
  const name = asksForHelp ? 'help' : given;
  const command = COMMANDS.find((each) => each.name === name);
  try {
    if (command !== undefined) return await command.run(command, rest);
    const suggested = suggestion(name, COMMANDS.map((each) => each.name));
    throw new UsageError(`unknown command ${JSON.stringify(name)}${suggested}`);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    printError(`otpd: ${error.message}\n${usage()}`);
    return WRONG_USAGE;
  }
}

/** A command that prints while it runs, until it is done or a signal stops it. */
function asProcess(work: (environment: Environment, stop: AbortSignal) => Promise<number>): Run {
  return async (command, rest) => {
    readValues(command, parseOptions(command, rest, []).positionals);
    try {
      return await work(readEnvironment(), listenForStop());
    } catch (error) {
      if (error instanceof Stopped) return 0;
      reportError(error);
      return 1;
    }
  };
}

/** A command with one result, printed as text or as one JSON object. */
function asReport(
  work: (...values: string[]) => Promise<Report> | Report,
  defaultFormat?: 'text',
): Run {
  return async (command, rest) => {
    const { positionals, format } = parseOptions(command, rest, FORMATS);
    const isText = (format ?? defaultFormat ?? (isOutputTerminal() ? 'text' : 'json')) === 'text';
    try {
      const { lines, data, note, isDone } = await work(...readValues(command, positionals));
      if (isText) for (const line of lines) print(line);
      else print(JSON.stringify(data));
      if (note !== undefined) printError(note);
      return isDone ? 0 : 1;
    } catch (error) {
      if (error instanceof UsageError) throw error;
      const message = isOperationalError(error) ? messageOf(error)
        : 'internal error; standard error has the details';
      if (!isText) print(JSON.stringify({ outcome: 'error', message }));
      reportError(error);
      return 1;
    }
  };
}

function printRemarks(environment: Environment): void {
  for (const { found, remedy } of remarksOn(environment)) printError(`otpd: ${found}; ${remedy}`);
}

const FORMATS = ['json', 'text'] as const;

type Format = (typeof FORMATS)[number];

type Parsed = Readonly<{ positionals: string[]; format: Format | undefined }>;

/** @throws UsageError for an option that the command does not take */
function parseOptions(
  { name }: Command,
  rest: readonly string[],
  formats: readonly Format[],
): Parsed {
  const options = Object.fromEntries(formats.map((each) => [each, { type: 'boolean' } as const]));
  // The errors of the strict mode name functions of Node.js and no remedy.
  const { tokens, positionals } = parseArgs({
    args: [...rest], options, allowPositionals: true, strict: false, tokens: true,
  });
  const given = new Set<Format>();
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const format = formats.find((each) => `--${each}` === token.rawName);
    if (format === undefined) throw unknownOption(name, token.rawName, formats);
    if (token.value !== undefined) throw new UsageError(`${token.rawName} takes no value`);
    given.add(format);
  }
  if (given.size > 1) throw new UsageError('--json and --text exclude each other');
  return { positionals, format: [...given][0] };
}

function unknownOption(command: string, given: string, formats: readonly Format[]): UsageError {
  const known = formats.map((each) => `--${each}`);
  const remedy = known.length === 0 ? `; ${command} takes no options`
    : `; the options are ${known.join(' and ')}, and a value that begins with - follows --`;
  const end = suggestion(given, known) || remedy;
  return new UsageError(`unknown option ${JSON.stringify(given)}${end}`);
}

/** The values among the arguments of a command, in order. */
function readValues(command: Command, given: readonly string[]): string[] {
  const words = command.arguments.split(' ').filter((word) => word !== '');
  const required = words.filter((word) => !word.startsWith('['));
  const isLiteral = (word: string | undefined): boolean => /^[a-z]/.test(word ?? '');
  const fits = given.length >= required.length && given.length <= words.length
    && given.every((value, index) => value !== '' && (!isLiteral(words[index])
      || value === words[index]));
  if (fits) return given.filter((_, index) => !isLiteral(words[index]));
  throw new UsageError(words.length === 0 ? `${command.name} takes no arguments`
    : `${command.name} takes: ${command.arguments}`);
}

async function withDatabase(
  work: (pool: ConnectionPool, config: Config) => Promise<Report>,
): Promise<Report> {
  const config = readConfig(readEnvironment());
  const pool = await openMigrated(config);
  try {
    return await work(pool, config);
  } finally {
    pool.close();
  }
}

function printHelp(): number {
  print(usage());
  return 0;
}

function usage(): string {
  const forms = COMMANDS.map((command) => `${command.name} ${command.arguments}`.trimEnd());
  const width = Math.max(...forms.map(({ length }) => length));
  const lines = COMMANDS.map(({ help }, index) => `  ${forms[index]!.padEnd(width)}  ${help}`);
  return ['usage: otpd COMMAND', ...lines, NOTES].join('\n');
}

const NOTES = `\
doctor, show, unlock, revoke, cancel and preview print text on a terminal and one JSON object
elsewhere; --json and --text override that, and -- ends the options. Exit codes: 0 done, or all
checks passed; 1 not done, or a check found a fault; 2 wrong command line. .env.example explains
every variable.`;
