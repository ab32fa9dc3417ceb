/**
 * What apt is told, so that it fetches packages for us and leaves the system as it is: it reads
 * the system's settings (proxies and the like stay in force), then this.
 */
import { join } from 'node:path';
import type { Distribution } from './apt-sources.ts';

/** The folders and files of one fetch, all inside its partial folder. */
export type AptFiles = Readonly<{
  folder: string;
  configuration: string;
  sources: string;
  status: string;
  archives: string;
}>;

/**
 * The paths of one fetch.
 *
 * @param folder the folder that apt may use
 */
export function aptFiles(folder: string): AptFiles {
  return Object.freeze({
    folder,
    configuration: join(folder, 'apt.conf'),
    sources: join(folder, 'sources.list'),
    status: join(folder, 'status'),
    archives: join(folder, 'archives'),
  });
}

/** Names of the package in order of preference; distributions number theirs or do not. */
export const PACKAGE_NAMES: readonly string[] = Object.freeze([
  'mysql-server-core',
  'mysql-server-core-8.4',
  'mysql-server-core-8.0',
]);

/** Programs that the system wants run around apt: none of them may run for a fetch of ours. */
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

/** Settings of the system that would choose other packages or fetch what is not needed. */
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

/**
 * The text of the configuration (apt.conf(5)). Later settings win, and `#clear` drops a list.
 *
 * @param architecture as dpkg names it
 */
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
    // Everything is in a folder that only this user can enter: no other user can do the work.
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

/**
 * The one source: the suite of the distribution that has MySQL (on Debian that is `sid`),
 * trusted by the distribution's key only.
 *
 * @param mirror the address of the archive
 * @param keyring the path of the distribution's keyring
 */
export function aptSource(mirror: string, keyring: string, distribution: Distribution): string {
  const place = distribution.kind === 'debian'
    ? 'sid main'
    : `${distribution.codename} main universe`;
  return `deb [signed-by=${keyring}] ${mirror} ${place}\n`;
}

/**
 * What apt is to take as installed. mysqld itself needs no perl, only scripts beside it do:
 * with perl "there" a third of the packages need not be fetched.
 *
 * @param architecture as dpkg names it
 */
export function aptStatus(architecture: string): string {
  return ['perl', 'perl-base'].map((name) => [
    `Package: ${name}`,
    'Status: install ok installed',
    'Version: 999',
    `Architecture: ${architecture}`,
    'Multi-Arch: allowed',
    'Maintainer: none <none@localhost>',
    'Description: taken as installed',
    '',
    '',
  ].join('\n')).join('');
}
