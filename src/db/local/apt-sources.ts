/**
 * Reads from apt's own lists which mirror of its distribution this machine uses, so that MySQL
 * comes from there and no host name is written in otpd.
 */
import { join } from 'node:path';
import { parseDeb822Sources, parseOneLineSources } from './apt-list-formats.ts';
import type { AptSource } from './apt-list-formats.ts';
import { namesIn, readIfThere } from './present-files.ts';

/** What /etc/os-release says of the distribution, as far as it decides where MySQL is. */
export type Distribution = Readonly<{
  kind: 'debian' | 'ubuntu';
  codename: string;
}>;

/** As many mirrors are tried as a person has patience for. */
const MIRRORS_MAX = 3;

/** A machine has a handful of lists; a folder with more is not worth reading on. */
const LISTS_MAX = 200;

/**
 * The distribution by /etc/os-release, derivatives of the two included.
 *
 * @returns undefined for every other system
 */
export function parseDistribution(osRelease: string): Distribution | undefined {
  const value = (name: string) =>
    new RegExp(`^${name}=["']?([^"'\\n]*)`, 'm').exec(osRelease)?.[1]?.trim() ?? '';
  const names = [value('ID'), ...value('ID_LIKE').split(/\s+/)];
  const codename = value('UBUNTU_CODENAME') || value('VERSION_CODENAME');
  if (names.includes('ubuntu')) return { kind: 'ubuntu', codename };
  return names.includes('debian') ? { kind: 'debian', codename } : undefined;
}

/**
 * The mirrors of the distribution's main archive, the likeliest first. A wrong guess does no
 * harm: what is fetched must be signed by the distribution's own key.
 *
 * @returns addresses, at most 3
 */
export function chooseMirrors(
  sources: readonly AptSource[],
  distribution: Distribution,
): string[] {
  const scored = sources
    .filter((source) => mayBeMainArchive(source, distribution))
    .map((source) => ({ uri: source.uri, score: score(source, distribution) }))
    .sort((a, b) => b.score - a.score);
  return [...new Set(scored.map(({ uri }) => uri))].slice(0, MIRRORS_MAX);
}

/**
 * All sources that apt has on this machine.
 *
 * @param etcFolder `/etc`
 */
export async function readSources(etcFolder: string): Promise<AptSource[]> {
  const apt = join(etcFolder, 'apt');
  const parts = join(apt, 'sources.list.d');
  const names = (await namesIn(parts)).slice(0, LISTS_MAX);
  const texts = await Promise.all(names.map((name) => readIfThere(join(parts, name))));
  const main = parseOneLineSources(await readIfThere(join(apt, 'sources.list')));
  return [...main, ...names.flatMap((name, index) => parseNamed(name, texts[index] ?? ''))];
}

/**
 * The distribution of this machine.
 *
 * @param etcFolder `/etc`
 */
export async function readDistribution(etcFolder: string): Promise<Distribution | undefined> {
  return parseDistribution(await readIfThere(join(etcFolder, 'os-release')));
}

function parseNamed(name: string, text: string): AptSource[] {
  if (name.endsWith('.list')) return parseOneLineSources(text);
  return name.endsWith('.sources') ? parseDeb822Sources(text) : [];
}

function mayBeMainArchive(source: AptSource, distribution: Distribution): boolean {
  if (!/^[a-z+]+:\S+$/i.test(source.uri) || source.uri.startsWith('cdrom:')) return false;
  if (/-security\/?$/.test(source.uri) || !source.components.includes('main')) return false;
  // A keyring of someone else's marks someone else's packages. A key itself tells nothing here.
  const keyring = source.signedBy.includes('/') ? source.signedBy : '';
  return keyring === '' || keyring.includes(`${distribution.kind}-archive`);
}

/** Likelier: signed by the archive's key, named as it, of the release itself or beside it. */
function score({ uri, suite, signedBy }: AptSource, { kind, codename }: Distribution): number {
  const release = /^(sid|unstable|testing|stable|oldstable)$/.test(suite) || suite === codename;
  return (signedBy.includes(`${kind}-archive`) ? 8 : 0)
    + (new RegExp(`/${kind}(-ports)?/?$`).test(uri) ? 4 : 0)
    + (release ? 2 : 0)
    + (suite.startsWith(`${codename}-`) ? 1 : 0);
}
