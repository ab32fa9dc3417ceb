/** The data folder of a development MySQL: its initialisation, and its version. */
import { open, rename, rm, writeFile } from 'node:fs/promises';
import { compareVersions, parseVersionLine } from '../../src/db/checks/mysql-version.ts';
import { lastLines, runCommand } from './command.ts';
import { MysqlServerError } from './error.ts';
import { isFolder, readIfThere } from './fetch/files.ts';
import { MYSQLD_ENVIRONMENT, initialiseArguments } from './mysqld.ts';
import type { Mysqld, ServerFiles } from './mysqld.ts';

/** Initialising takes 2 to 3 s on an ordinary machine, and up to a minute on a slow disk. */
const INITIALISE_TIMEOUT_MS = 180_000;

/** The end of a log that fits on a screen and usually contains the reason of a failure. */
const LOG_LINES = 12;

/**
 * True when there is no data yet. An incomplete data folder is removed first.
 *
 * @throws MysqlServerError when a MySQL of a later series than this one wrote the data
 */
export async function needsInitialising(mysqld: Mysqld, files: ServerFiles): Promise<boolean> {
  await rm(files.dataPartial, { recursive: true, force: true });
  if (!(await isFolder(files.data))) return true;
  await refuseNewerData(mysqld, files);
  return false;
}

/**
 * Creates the data folder under a temporary name, and renames it when it is complete: an
 * incomplete one is never used.
 *
 * @throws MysqlServerError with the end of mysqld's log, or the abort reason
 */
export async function initialise(
  mysqld: Mysqld,
  files: ServerFiles,
  durable: boolean,
  signal?: AbortSignal,
): Promise<void> {
  const end = await runCommand(mysqld.program, initialiseArguments(mysqld, files, durable), {
    timeoutMs: INITIALISE_TIMEOUT_MS,
    environment: MYSQLD_ENVIRONMENT,
    signal,
  });
  if (!end.succeeded) {
    const lines = await logLines(files, end.output);
    await rm(files.dataPartial, { recursive: true, force: true });
    throw initialisationFailed(mysqld, files, lines);
  }
  await rename(files.dataPartial, files.data);
  await syncFolder(files.folder);
}

/** Records the version that writes the data, so that an older MySQL gets a clear error. */
export async function recordVersion(mysqld: Mysqld, files: ServerFiles): Promise<void> {
  const partial = `${files.version}.partial`;
  await writeFile(partial, `Ver ${mysqld.versionText}\n`, { mode: 0o600 });
  await rename(partial, files.version);
}

/** The last lines of mysqld's log, after what mysqld printed before it opened the log. */
export async function logLines(files: ServerFiles, printed: string): Promise<string[]> {
  const log = await readIfThere(files.log);
  const lines = lastLines(`${printed}\n${log}`, LOG_LINES);
  return lines.length === 0 ? ['  (the log is empty)'] : lines.map((line) => `  ${line}`);
}

async function refuseNewerData(mysqld: Mysqld, files: ServerFiles): Promise<void> {
  const written = parseVersionLine(await readIfThere(files.version));
  if (written?.kind !== 'mysql') return;
  // mysqld decides about a downgrade within a series; across series it never supports one.
  const series = { ...written.version, patch: 0 };
  if (compareVersions(series, { ...mysqld.version, patch: 0 }) <= 0) return;
  throw new MysqlServerError([
    `The data in ${files.data} was written by MySQL ${written.text}.`,
    `${mysqld.program} is the older MySQL ${mysqld.versionText}, which cannot read this data.`,
    'Set MYSQLD to a mysqld of the same version or later,',
    `or remove ${files.folder} to start with an empty database.`,
  ]);
}

function initialisationFailed(mysqld: Mysqld, files: ServerFiles, lines: string[]) {
  return new MysqlServerError([
    `MySQL ${mysqld.versionText} (${mysqld.program}) could not create its data in ${files.folder}.`,
    'The end of its log:',
    ...lines,
    ...confinementHint(mysqld),
    `The whole log is ${files.log}. Fix the cause and start again; no incomplete data is left.`,
  ]);
}

/** Advice for a mysqld from a package: on Ubuntu, AppArmor confines it to /var/lib/mysql. */
export function confinementHint(mysqld: Mysqld): string[] {
  if (process.platform !== 'linux' || !mysqld.program.startsWith('/usr/')) return [];
  return [
    'If the log says "Permission denied", AppArmor may confine this mysqld to /var/lib/mysql',
    '(see aa-status). Set MYSQLD to a mysqld outside /usr, or set DB_SOCKET to use the MySQL',
    'service of the system.',
  ];
}

/** The rename must be as durable as the data. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
