/**
 * The leak test at the end of the suite: no code that was ever issued, no key of a caller and no
 * digest of one occurs in any answer, log, statement sent to MySQL, or table. Only the message sink
 * may hold codes.
 */
import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings, Row, Connection } from '../../src/db/connection.ts';

const GENERAL_LOG = 'general.log';

/** How many leaks are shown; one is enough to fail. */
const SHOWN_MAX = 10;

/**
 * Numbers of the length of a code, standing alone: a run of digits inside a hexadecimal text, a
 * fraction of a second or a longer number is no code.
 */
const CODE_LIKE = /(?<![0-9A-Za-z.])\d{6,10}(?![0-9A-Za-z])/g;

/** The key of a caller, or a SHA-256. */
const KEY_LIKE = /otpd_[0-9A-Za-z_-]{43}|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g;

/** Makes the server write down every statement, with its values, for findLeaks to read. */
export async function startGeneralLog(socketPath: string, trail: string): Promise<void> {
  await withSession(socketPath, async (session) => {
    const path = join(trail, GENERAL_LOG);
    await session.run('test', 'SET GLOBAL general_log_file = ?', [path]);
    await session.run('test', 'SET GLOBAL general_log = ON', []);
  });
}

/**
 * Looks for codes and keys in all that the suite left behind.
 *
 * @param mustHaveCodes true when the suite is whole, and a lack of codes would be a mistake
 * @returns '' when there is none, else the places, for a person to read
 */
export async function findLeaks(
  socketPath: string,
  trail: string,
  mustHaveCodes: boolean,
): Promise<string> {
  const names = readdirSync(trail);
  const noted = (kind: string): Set<string> =>
    new Set(names.filter((name) => name.startsWith(kind))
      .flatMap((name) => readFileSync(join(trail, name), 'utf8').split('\n'))
      .filter((text) => text !== ''));
  const codes = noted('codes.');
  const keys = noted('keys.');
  const leaks: string[] = [];
  const look: Look = (place, text) => {
    if (holdsCode(text, codes)) leaks.push(`${place}: ${text.slice(0, 400)}`);
    for (const [found] of text.matchAll(KEY_LIKE)) {
      if (keys.has(found)) leaks.push(`${place}: ${text.slice(0, 400)}`);
    }
  };
  for (const name of names.filter((file) => !/^(codes|keys)\./.test(file))) {
    const lines = createInterface({ input: createReadStream(join(trail, name)) });
    for await (const line of lines) look(name, withoutClock(line));
  }
  await withSession(socketPath, (session) => lookInTables(session, 'otpd%', look));
  if (codes.size === 0 && mustHaveCodes) return 'no code was issued, so nothing was tested';
  return leaks.slice(0, SHOWN_MAX).join('\n');
}

/** The clock of a test is set in seconds since 1970, which is a number of ten digits. */
function withoutClock(line: string): string {
  return line.replace(/SET timestamp ?= ?\d+\.\d+/, '');
}

/**
 * Looks for codes in all tables of one database.
 *
 * @returns how many rows were looked at, and those in which a code stands, for a person to read
 */
export async function findInTables(
  { socketPath, database }: DatabaseSettings,
  codes: ReadonlySet<string>,
): Promise<{ rows: number; leaks: string[] }> {
  let rows = 0;
  const leaks: string[] = [];
  await withSession(socketPath ?? '', (session) => lookInTables(session, database ?? '',
    (place, text) => {
      rows += 1;
      if (holdsCode(text, codes)) leaks.push(`${place}: ${text.slice(0, 400)}`);
    }));
  return { rows, leaks };
}

type Look = (place: string, text: string) => void;

function holdsCode(text: string, codes: ReadonlySet<string>): boolean {
  return [...text.matchAll(CODE_LIKE)].some(([found]) => codes.has(found));
}

/** @param databases a pattern of LIKE */
async function lookInTables(session: Connection, databases: string, look: Look): Promise<void> {
  const tables = await session.run('test', `SELECT table_schema AS db, table_name AS name
    FROM information_schema.tables WHERE table_schema LIKE ?`, [databases]);
  for (const { db, name } of tables) {
    const rows = await session.run('test', `SELECT * FROM \`${db}\`.\`${name}\``, []);
    for (const row of rows) look(`table ${name}`, describeRow(row));
  }
}

function describeRow(row: Row): string {
  const cells = Object.entries(row).map(([column, value]) => {
    const text = Buffer.isBuffer(value) ? `${value.toString('latin1')} x${value.toString('hex')}`
      : String(value);
    return `${column}=${text}`;
  });
  return cells.join(' ');
}

async function withSession<T>(
  socketPath: string,
  work: (session: Connection) => Promise<T>,
): Promise<T> {
  const session = await openConnection({
    socketPath, host: null, port: 0, user: 'root', password: '', database: null, tlsCaFile: null,
  });
  try {
    return await work(session);
  } finally {
    session.destroy();
  }
}
