/** Parses the version line of a MySQL server and decides whether otpd supports it. */

/** The collation utf8mb4_0900_bin needs 8.0.17. The oldest version in the tests is 8.0.33. */
const OLDEST_SUPPORTED = { major: 8, minor: 0, patch: 19 } as const;

export const MYSQL_REMEDY = 'use MySQL 8.4 or later';

/**
 * Products that speak the protocol of MySQL and name themselves in their version or its comment.
 * They lack what the limits rest on: row locks as InnoDB takes them, or syntax that otpd uses.
 * Servers with the engine of MySQL, such as Percona Server and Aurora, are accepted.
 */
const OTHER_PRODUCTS: readonly [name: string, pattern: RegExp][] = [
  'MariaDB', 'TiDB', 'OceanBase', 'SingleStore', 'MemSQL', 'Dolt', 'Vitess', 'PlanetScale',
  'StarRocks', 'Doris', 'Databend',
].map((name) => [name, new RegExp(name, 'i')]);

export type MysqlVersion = Readonly<{ major: number; minor: number; patch: number }>;

/** `text` is the version with its suffix, for messages. */
type VersionLine =
  | Readonly<{ kind: 'mysql'; text: string; version: MysqlVersion }>
  | Readonly<{ kind: 'other'; product: string; text: string }>;

/** `reason` continues a sentence whose subject is the server. */
type VersionVerdict =
  | Readonly<{ usable: true; text: string; version: MysqlVersion }>
  | Readonly<{ usable: false; reason: string }>;

/**
 * Parses a version line: `Ver 8.0.39-…` of MySQL and its builds (Percona Server, distributions),
 * `Ver 10.11.6-MariaDB-…` of MariaDB, which greets with `5.5.5-` before its version.
 *
 * @returns undefined when the line has no version
 */
export function parseVersionLine(output: string): VersionLine | undefined {
  const match = /\bVer (?:5\.5\.5-)?((\d+)\.(\d+)\.(\d+)\S*)/.exec(output);
  const text = match?.[1];
  // A path of the program may stand before the version.
  const named = output.slice(match?.index ?? 0);
  const [product] = OTHER_PRODUCTS.find(([, pattern]) => pattern.test(named)) ?? [];
  if (product !== undefined) return { kind: 'other', product, text: text ?? 'of unknown version' };
  if (!match || text === undefined) return undefined;
  const [major = 0, minor = 0, patch = 0] = match.slice(2, 5).map(Number);
  return { kind: 'mysql', text, version: { major, minor, patch } };
}

export function checkVersion(output: string): VersionVerdict {
  const line = parseVersionLine(output);
  if (!line) return { usable: false, reason: 'reports no MySQL version' };
  if (line.kind === 'other') {
    const reason = `is ${line.product} ${line.text}, not MySQL; otpd needs MySQL 8.0.19 or later`;
    return { usable: false, reason };
  }
  if (compareVersions(line.version, OLDEST_SUPPORTED) < 0) {
    return { usable: false, reason: `is MySQL ${line.text}; otpd needs 8.0.19 or later` };
  }
  return { usable: true, text: line.text, version: line.version };
}

/**
 * Judges a server by the version in its greeting. The number is not judged: a proxy greets with a
 * version of its own.
 *
 * @returns the reason to refuse it, or null
 */
export function findOtherProduct(version: string): string | null {
  const verdict = checkVersion(`Ver ${version}`);
  return parseVersionLine(`Ver ${version}`)?.kind === 'other' && !verdict.usable
    ? verdict.reason : null;
}

/** Negative when `a` is older, 0 when equal. */
export function compareVersions(a: MysqlVersion, b: MysqlVersion): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch;
}
