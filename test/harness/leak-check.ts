/**
 * The leak check at the end of a lane: no issued code, key of an API client or digest of one occurs
 * in a response, log, statement sent to MySQL, or table. Only the message sink may contain codes.
 */
import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings, Connection } from '../../src/db/connection.ts';
import { ANSWERS } from './answer-recorder.ts';
import { rowText } from './leak-recorder.ts';

const GENERAL_LOG = 'general.log';

/** One leak is enough to fail. */
const SHOWN_MAX = 10;

/**
 * Numbers with the length of a code. Digits inside a hexadecimal text, a fraction of a second or a
 * longer number are no code.
 */
const CODE_LIKE = /(?<![0-9A-Za-z.])\d{6,10}(?![0-9A-Za-z])/g;

/** The key of an API client, or a SHA-256. */
const KEY_LIKE = /otpd_[0-9A-Za-z_-]{43}|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g;

type Inspect = (place: string, text: string) => void;

/** Makes the server log every statement, with its values, to a folder of the leak recorder. */
export async function startGeneralLog(socketPath: string, folder: string): Promise<void> {
  await withConnection(socketPath, async (connection) => {
    await connection.run('test', 'SET GLOBAL general_log_file = ?', [join(folder, GENERAL_LOG)]);
    await connection.run('test', 'SET GLOBAL general_log = ON', []);
  });
}

/**
 * Searches everything recorded, and the tables of the server, for codes and keys.
 *
 * @param folders those of the leak recorder; a code of one must not occur in the texts of another
 * @param mustHaveCodes true for a whole lane, where a lack of codes is an error
 * @returns '' without a leak, else the places
 */
export async function findLeaks(
  socketPath: string,
  folders: readonly string[],
  mustHaveCodes: boolean,
): Promise<string> {
  const files = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  const codes = recordedIn(files, 'codes');
  const keys = recordedIn(files, 'keys');
  if (codes.size === 0 && mustHaveCodes) return 'no code was issued, so nothing was tested';
  const leaks: string[] = [];
  const inspect: Inspect = (place, text) => {
    const hasKey = [...text.matchAll(KEY_LIKE)].some(([found]) => keys.has(found));
    if (hasKey || containsCode(text, codes)) leaks.push(`${place}: ${text.slice(0, 400)}`);
  };
  // The texts of the answers are recorded as visible, too.
  for (const file of files.filter((path) => !isRecordOf(path, 'codes', 'keys', ANSWERS))) {
    const lines = createInterface({ input: createReadStream(file) });
    for await (const line of lines) inspect(file, withoutNumbers(withText(line)));
  }
  await withConnection(socketPath, (connection) => inspectTables(connection, 'otpd%', inspect));
  return leaks.slice(0, SHOWN_MAX).join('\n');
}

/**
 * Searches all tables of one database for codes.
 *
 * @returns the number of rows searched, and those that contain a code
 */
export async function findInTables(
  { socketPath, database }: DatabaseSettings,
  codes: ReadonlySet<string>,
): Promise<{ rows: number; leaks: string[] }> {
  let rows = 0;
  const leaks: string[] = [];
  await withConnection(socketPath ?? '', (connection) => inspectTables(connection, database ?? '',
    (place, text) => {
      rows += 1;
      if (containsCode(text, codes)) leaks.push(`${place}: ${text.slice(0, 400)}`);
    }));
  return { rows, leaks };
}

function recordedIn(files: readonly string[], kind: string): Set<string> {
  return new Set(files.filter((path) => isRecordOf(path, kind))
    .flatMap((path) => readFileSync(path, 'utf8').split('\n'))
    .filter((text) => text !== ''));
}

function isRecordOf(path: string, ...kinds: string[]): boolean {
  return kinds.some((kind) => basename(path).startsWith(`${kind}.`));
}

function containsCode(text: string, codes: ReadonlySet<string>): boolean {
  return [...text.matchAll(CODE_LIKE)].some(([found]) => codes.has(found));
}

/** Decodes the text of a statement that is bound as hexadecimal digits. */
function withText(line: string): string {
  return line.replace(/_utf8mb4 X'([0-9a-f]*)'/g,
    (_, digits: string) => `'${Buffer.from(digits, 'hex').toString()}'`);
}

/** Removes the clock of a test, seconds since 1970, and the bounds of reads. */
function withoutNumbers(line: string): string {
  return line.replace(/SET timestamp ?= ?\d+\.\d+|\bLIMIT \d+/g, '');
}

/** @param databases a pattern of LIKE */
async function inspectTables(
  connection: Connection,
  databases: string,
  inspect: Inspect,
): Promise<void> {
  const tables = await connection.run('test', `SELECT table_schema AS db, table_name AS name
    FROM information_schema.tables WHERE table_schema LIKE ?`, [databases]);
  for (const { db, name } of tables) {
    const rows = await connection.run('test', `SELECT * FROM \`${db}\`.\`${name}\``, []);
    for (const row of rows) inspect(`table ${name}`, rowText(row));
  }
}

async function withConnection<T>(
  socketPath: string,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await openConnection({
    socketPath, host: null, port: 0, user: 'root', password: '', database: null, tls: 'off',
    tlsCaFile: null,
  });
  try {
    return await work(connection);
  } finally {
    connection.destroy();
  }
}
