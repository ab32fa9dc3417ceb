/** Makes the data folder of a private server, once, and never half. */
import { open, rename, rm, writeFile } from 'node:fs/promises';
import { compareVersions, parseVersionLine } from '../checks/mysql-version.ts';
import { lastLines, runCommand } from './command.ts';
import { LocalServerError } from './local-server-error.ts';
import { initialiseArguments } from './mysqld-arguments.ts';
import type { ServerFiles } from './mysqld-arguments.ts';
import { MYSQLD_ENVIRONMENT } from './mysqld-program.ts';
import type { Mysqld } from './mysqld-program.ts';
import { isFolder, readIfThere } from './present-files.ts';

/** Takes 2 to 3 s on an ordinary machine; a slow disk may need a minute. */
const INITIALISE_TIMEOUT_MS = 180_000;

/** As much of a log as fits on a screen and holds the reason. */
const LOG_LINES = 12;

/**
 * Whether the data folder is still to be made. A half-made one is removed.
 *
 * @throws LocalServerError when the data was written by a MySQL of a later series than this one
 */
export async function needsInitialising(mysqld: Mysqld, files: ServerFiles): Promise<boolean> {
  await rm(files.dataPartial, { recursive: true, force: true });
  if (!(await isFolder(files.data))) return true;
  await refuseNewerData(mysqld, files);
  return false;
}

/**
 * Creates the data folder. It is made under another name and renamed when it is complete, so
 * that a half-made one is never mistaken for it.
 *
 * @throws LocalServerError with the end of mysqld's log, or the abort reason
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

/** Records which MySQL wrote the data, so that an older one is refused by a clear message. */
export async function recordVersion(mysqld: Mysqld, files: ServerFiles): Promise<void> {
  const partial = `${files.version}.partial`;
  await writeFile(partial, `Ver ${mysqld.versionText}\n`, { mode: 0o600 });
  await rename(partial, files.version);
}

/**
 * The end of mysqld's log, or of what it printed before it had a log.
 *
 * @param printed what it printed on its outputs
 */
export async function logLines(files: ServerFiles, printed: string): Promise<string[]> {
  const log = await readIfThere(files.log);
  const lines = lastLines(`${printed}\n${log}`, LOG_LINES);
  return lines.length === 0 ? ['  (it wrote nothing)'] : lines.map((line) => `  ${line}`);
}

async function refuseNewerData(mysqld: Mysqld, files: ServerFiles): Promise<void> {
  const written = parseVersionLine(await readIfThere(files.version));
  if (written?.kind !== 'mysql') return;
  // Within a series mysqld itself decides; across series it never goes back.
  const series = { ...written.version, patch: 0 };
  if (compareVersions(series, { ...mysqld.version, patch: 0 }) <= 0) return;
  throw new LocalServerError([
    `The data in ${files.data} was written by MySQL ${written.text},`,
    `but ${mysqld.program} is the older MySQL ${mysqld.versionText}, which cannot read it.`,
    'Set MYSQLD to a mysqld that is at least as new,',
    `or remove ${files.folder} to start with an empty database.`,
  ]);
}

function initialisationFailed(mysqld: Mysqld, files: ServerFiles, lines: string[]) {
  return new LocalServerError([
    `MySQL ${mysqld.versionText} (${mysqld.program}) could not create its data in ${files.folder}.`,
    'The end of its log:',
    ...lines,
    ...confinementHint(mysqld),
    `The whole log is ${files.log}. Nothing half-made was kept: put it right and start again.`,
  ]);
}

/**
 * What to think of when a mysqld of the system cannot use a folder that is ours: Ubuntu confines
 * it by AppArmor to /var/lib/mysql.
 */
export function confinementHint(mysqld: Mysqld): string[] {
  if (process.platform !== 'linux' || !mysqld.program.startsWith('/usr/')) return [];
  return [
    'If the log says "Permission denied": a packaged mysqld may be confined by AppArmor to',
    '/var/lib/mysql (see aa-status). Run another copy: set MYSQLD to one outside /usr,',
    'or use the MySQL service of the system by DB_SOCKET.',
  ];
}

/** The new name must survive a crash as well as the data does. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
