/**
 * The configuration of apt for a fetch that leaves the system as it is, and the mirrors that the
 * lists of the system name. apt reads the settings of the system first, so its proxies apply.
 */
import { join } from 'node:path';
import { namesIn, readIfThere } from './files.ts';

/** The folders and files of one fetch, all inside one folder. */
export type AptFiles = Readonly<{
  folder: string;
  configuration: string;
  sources: string;
  status: string;
  archives: string;
}>;

/** @param folder everything that apt writes goes into this folder */
export function aptFiles(folder: string): AptFiles {
  return Object.freeze({
    folder,
    configuration: join(folder, 'apt.conf'),
    sources: join(folder, 'sources.list'),
    status: join(folder, 'status'),
    archives: join(folder, 'archives'),
  });
}

/** Programs that the system runs together with apt. None of them may run for this fetch. */
const HOOKS = [
  'APT::Update::Pre-Invoke',
  'APT::Update::Post-Invoke',
  'APT::Update::Post-Invoke-Success',
  'APT::Update::Auth-Failure',
  'APT::Install::Pre-Invoke',
  'APT::Install::Post-Invoke',
  'APT::Install::Post-Invoke-Success',
  'DPkg::Pre-Invoke',
  'DPkg::Post-Invoke',
  'DPkg::Pre-Install-Pkgs',
  'AptCli::Hooks',
];

/** Settings of the system that would choose other packages, or fetch superfluous files. */
const FOREIGN_SETTINGS = [
  'APT::Default-Release',
  'APT::Architectures',
  'APT::NeverAutoRemove',
  'Acquire::IndexTargets::deb::DEP-11',
  'Acquire::IndexTargets::deb::DEP-11-icons-small',
  'Acquire::IndexTargets::deb::DEP-11-icons',
  'Acquire::IndexTargets::deb::DEP-11-icons-hidpi',
  'Acquire::IndexTargets::deb::DEP-11-icons-large',
  'Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi',
  'Acquire::IndexTargets::deb::CNF',
  'Acquire::Languages',
];

/** The configuration file (apt.conf(5)). Later settings win, and `#clear` empties a list. */
export function aptConfiguration(files: AptFiles, architecture: string): string {
  const settings = {
    'Dir::Etc::SourceList': files.sources,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::Etc::Preferences': '/dev/null',
    'Dir::Etc::PreferencesParts': '/dev/null',
    'Dir::State': join(files.folder, 'state'),
    'Dir::State::Lists': join(files.folder, 'lists'),
    'Dir::State::status': files.status,
    'Dir::Cache': files.folder,
    'Dir::Cache::Archives': files.archives,
    'Dir::Log': join(files.folder, 'log'),
    'APT::Architecture': architecture,
    'APT::Architectures::': architecture,
    // Only this user can enter the folder, so apt must not switch to another user.
    'APT::Sandbox::User': 'root',
    'APT::Get::Assume-Yes': 'true',
    'APT::Get::AllowUnauthenticated': 'false',
    'APT::Install-Recommends': 'false',
    'APT::Install-Suggests': 'false',
    'APT::Update::Error-Mode': 'any',
    'Acquire::AllowInsecureRepositories': 'false',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '2',
  };
  const clear = [...HOOKS, ...FOREIGN_SETTINGS].map((name) => `#clear ${name};`);
  const set = Object.entries(settings).map(([name, value]) => `${name} "${value}";`);
  return `${[...clear, ...set].join('\n')}\n`;
}

/** The only source: on Debian the suite with the newest packages; signed by the keyring. */
export function aptSource(mirror: string, keyring: string, distribution: Distribution): string {
  const place = distribution.kind === 'debian'
    ? 'sid main'
    : `${distribution.codename} main universe`;
  return `deb [signed-by=${keyring}] ${mirror} ${place}\n`;
}

/**
 * The packages that apt assumes to be installed. Scripts of the MySQL package need perl, mysqld
 * does not: without perl, a third of the packages is not fetched.
 */
export function aptStatus(architecture: string): string {
  return ['perl', 'perl-base'].map((name) => [
    `Package: ${name}`,
    'Status: install ok installed',
    'Version: 999',
    `Architecture: ${architecture}`,
    'Multi-Arch: allowed',
    'Maintainer: none <none@localhost>',
    'Description: assumed to be installed',
    '',
    '',
  ].join('\n')).join('');
}

/** The part of /etc/os-release that determines the source of MySQL. */
export type Distribution = Readonly<{
  kind: 'debian' | 'ubuntu';
  codename: string;
}>;

/** Each failure takes time, and nobody waits for more than three. */
const MIRRORS_MAX = 3;

/** A machine has a handful of lists. */
const LISTS_MAX = 200;

/**
 * Parses /etc/os-release. Derivatives of Debian and Ubuntu count as these.
 *
 * @returns undefined for any other system
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
 * Chooses up to three mirrors of the main archive, the most likely one first. A wrong choice is
 * harmless, because the archive must be signed by the key of the distribution.
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

/** Reads every source in the lists of apt. */
export async function readSources(etcFolder: string): Promise<AptSource[]> {
  const apt = join(etcFolder, 'apt');
  const parts = join(apt, 'sources.list.d');
  const names = (await namesIn(parts)).slice(0, LISTS_MAX);
  const texts = await Promise.all(names.map((name) => readIfThere(join(parts, name))));
  const main = parseOneLineSources(await readIfThere(join(apt, 'sources.list')));
  return [...main, ...names.flatMap((name, index) => parseNamed(name, texts[index] ?? ''))];
}

/** Returns undefined unless the system is Debian, Ubuntu or a derivative. */
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
  // Another keyring belongs to a third party. An embedded key does not name its owner.
  const keyring = source.signedBy.includes('/') ? source.signedBy : '';
  return keyring === '' || keyring.includes(`${distribution.kind}-archive`);
}

/** Weighs, in this order: the keyring, the name in the URL, the release, a suite next to it. */
function score({ uri, suite, signedBy }: AptSource, { kind, codename }: Distribution): number {
  const release = /^(sid|unstable|testing|stable|oldstable)$/.test(suite) || suite === codename;
  return (signedBy.includes(`${kind}-archive`) ? 8 : 0)
    + (new RegExp(`/${kind}(-ports)?/?$`).test(uri) ? 4 : 0)
    + (release ? 2 : 0)
    + (suite.startsWith(`${codename}-`) ? 1 : 0);
}

/** A source of packages in the lists of apt (sources.list(5)). */
type AptSource = Readonly<{
  uri: string;
  suite: string;
  components: readonly string[];
  /** The keyring that the entry names, or ''. */
  signedBy: string;
}>;

/** Parses a `.list` file, without comments and `deb-src` lines. */
export function parseOneLineSources(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const found = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!found) return [];
    const [, options = '', uri = '', suite = '', components = ''] = found;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1] ?? '';
    return [{ uri, suite, components: words(components), signedBy }];
  });
}

/** Parses a `.sources` file (deb822) into one source for each pair of URL and suite. */
export function parseDeb822Sources(text: string): AptSource[] {
  const withoutComments = text.split('\n').filter((line) => !line.startsWith('#')).join('\n');
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const field = deb822Fields(stanza);
    if (!words(field('types')).includes('deb')) return [];
    if (/^(no|false|without|off|disable|0)$/i.test(field('enabled'))) return [];
    const components = words(field('components'));
    return words(field('uris')).flatMap((uri) =>
      words(field('suites')).map((suite) => ({
        uri, suite, components, signedBy: field('signed-by'),
      })));
  });
}

/** Returns a lookup by field name in lower case. Lines with a leading space continue a field. */
function deb822Fields(stanza: string): (name: string) => string {
  const unfolded = stanza.replace(/\n[ \t]+/g, ' ');
  const pairs = unfolded.split('\n').map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  const fields = new Map(pairs);
  return (name) => fields.get(name) ?? '';
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
