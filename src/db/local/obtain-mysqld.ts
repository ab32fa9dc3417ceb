/** The order in which a mysqld is had: the machine's own, our copy, a fetched one. */
import { cachedMysqld, fetchMysqld } from './fetch-mysql.ts';
import { locateMysqld, USUAL_FOLDERS } from './locate.ts';
import type { Mysqld } from './mysqld-program.ts';

type Wishes = Readonly<{
  mysqld: string | undefined;
  searchPath: string;
  cacheFolder: string;
  say: (line: string) => void;
  signal?: AbortSignal | undefined;
}>;

/** Where to look on the machine; tests look elsewhere. */
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
 * Gets a usable mysqld, fetching one if need be.
 *
 * @throws LocalServerError when there is no way, or the abort reason
 */
export async function obtainMysqld(
  wishes: Wishes,
  machine: Machine = THIS_MACHINE,
): Promise<Mysqld> {
  const located = await locateMysqld({ ...wishes, usualFolders: machine.usualFolders });
  if (located) return located;
  const options = { ...wishes, ...machine };
  return (await cachedMysqld(options)) ?? fetchMysqld(options);
}
