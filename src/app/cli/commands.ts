/** The commands of the operator: what each takes, what it needs, and how its end is printed. */
import { parseArgs } from 'node:util';
import { readConfig, readEnvironment } from '../config/config.ts';
import type { Config } from '../config/config.ts';
import { openMigrated } from '../database.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import { runDoctor } from './doctor/doctor.ts';
import { makeKey, newSecret } from './keys.ts';
import { isExpected, isReadByPerson, printError, report, print, UsageError } from '../output.ts';
import type { Report } from '../output.ts';
import { cancel, checkOtpId, show, unlock } from './support.ts';

/** What a command is given; it throws UsageError when it cannot take that. */
type Operation = (given: readonly string[]) => Promise<Report> | Report;

const OPERATIONS: ReadonlyMap<string, Operation> = new Map<string, Operation>([
  ['doctor', (given) => {
    if (given.length > 0) throw new UsageError('doctor takes no arguments');
    return runDoctor();
  }],
  ['show', (given) => {
    const [userId] = take(given, 'USER');
    return withDatabase((pool, { policies }) => show({ pool, policies }, userId));
  }],
  ['unlock', (given) => {
    const [userId, purpose] = take(given, 'USER', 'PURPOSE');
    return withDatabase((pool) => unlock(pool, { userId, purpose }));
  }],
  ['cancel', (given) => {
    const [otpId] = take(given, 'OTP_ID');
    checkOtpId(otpId);
    return withDatabase((pool, { secrets }) => cancel({ pool, secrets }, otpId));
  }],
  ['secret', ([verb, ...ids]) => {
    if (verb !== 'new' || ids.length > 1) throw new UsageError('secret takes: new [ID]');
    return newSecret(...ids);
  }],
  ['key', makeKey],
]);

/** Whether this is one of them. */
export function isOperation(name: string): boolean {
  return OPERATIONS.has(name);
}

/**
 * Runs one of them and prints how it ended.
 *
 * @returns the exit status: 0 done, 1 not done, or the one of a wrong command line
 */
export async function operate(name: string, rest: readonly string[]): Promise<number> {
  let isText = ['secret', 'key'].includes(name) || isReadByPerson();
  try {
    const { given, mode } = parse(rest);
    isText = mode === null ? isText : mode === 'text';
    const ended = await OPERATIONS.get(name)!(given);
    if (isText) for (const line of ended.lines) print(line);
    else print(JSON.stringify(ended.data));
    if (ended.note !== undefined) printError(ended.note);
    return ended.isDone ? 0 : 1;
  } catch (error) {
    if (error instanceof UsageError) return refuse(error.message);
    const message = isExpected(error) ? error.message : 'a mistake in otpd';
    if (!isText) print(JSON.stringify({ outcome: 'error', message }));
    report(error);
    return 1;
  }
}

type Parsed = Readonly<{ given: readonly string[]; mode: 'json' | 'text' | null }>;

function parse(rest: readonly string[]): Parsed {
  const options = { json: { type: 'boolean' }, text: { type: 'boolean' } } as const;
  try {
    const { values, positionals: given } = parseArgs({
      args: [...rest], options, allowPositionals: true,
    });
    if (values.json && values.text) throw new UsageError('--json and --text exclude each other');
    return { given, mode: values.json ? 'json' : values.text ? 'text' : null };
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message);
  }
}

/** So many arguments as there are names. */
function take<N extends readonly string[]>(
  given: readonly string[],
  ...names: N
): { [K in keyof N]: string } {
  if (given.length === names.length && !given.includes('')) {
    return given as unknown as { [K in keyof N]: string };
  }
  throw new UsageError(`it takes ${names.join(' ')}`);
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

const USAGE = `usage: otpd COMMAND
  serve                  answer requests
  migrate                bring the database to the schema of this otpd
  doctor                 check the configuration, MySQL, the schema and the channels
  show USER              limits, locks, wrong attempts and open codes of a user
  unlock USER PURPOSE    end a lock and forget the wrong attempts
  cancel OTP_ID          close a code that was not redeemed yet
  secret new [ID]        draw a server secret for OTP_SECRETS
  key new NAME [SCOPES]  make a key for a caller, of request+verify+read unless told
  help                   print this
doctor, show, unlock and cancel print text on a terminal and one JSON object elsewhere: --json and
--text decide. -- ends the options. They exit with 0 when it is done or all is well, 1 when not, and
every command with 2 when it is called wrongly. Every variable is explained in .env.example.`;

/** How a process ends whose command line is wrong. */
const WRONG_USAGE = 2;

/** Prints it for who asks for it. */
export function help(): number {
  print(USAGE);
  return 0;
}

/**
 * Prints it for who has called otpd wrongly.
 *
 * @param reason what is wrong
 */
export function refuse(reason: string): number {
  printError(`otpd: ${reason}\n${USAGE}`);
  return WRONG_USAGE;
}
