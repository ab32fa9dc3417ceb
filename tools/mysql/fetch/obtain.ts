/** Obtains a mysqld: an installed one, one that was fetched before, or a newly fetched one. */
import { USUAL_FOLDERS, locateMysqld } from '../locate.ts';
import type { Mysqld } from '../mysqld.ts';
import { cachedMysqld, fetchMysqld } from './fetch.ts';

type ObtainOptions = Readonly<{
  mysqld: string | undefined;
  searchPath: string;
  cacheFolder: string;
  print: (line: string) => void;
  signal?: AbortSignal | undefined;
}>;

/** The folders of the system. Tests use other ones. */
type Machine = Readonly<{
  usualFolders: readonly string[];
  etcFolder: string;
  keyringFolder: string;
}>;

const THIS_MACHINE: Machine = Object.freeze({
  usualFolders: USUAL_FOLDERS,
  etcFolder: '/etc',
  keyringFolder: '/usr/share/keyrings',
});

/**
 * Obtains a usable mysqld, and fetches one when the machine has none.
 *
 * @throws MysqlServerError when none is found and none can be fetched, or the abort reason
 */
export async function obtainMysqld(
  wanted: ObtainOptions,
  machine: Machine = THIS_MACHINE,
): Promise<Mysqld> {
  const located = await locateMysqld({ ...wanted, usualFolders: machine.usualFolders });
  if (located) return located;
  const options = { ...wanted, ...machine };
  return (await cachedMysqld(options)) ?? fetchMysqld(options);
}
