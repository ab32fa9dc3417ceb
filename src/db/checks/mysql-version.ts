/** Parses the version line of a MySQL server and decides whether otpd supports it. */

/** The first version with every feature that otpd uses: `INSERT … AS new` and `VALUES ROW()`. */
const OLDEST_SUPPORTED = { major: 8, minor: 0, patch: 19 } as const;

export type MysqlVersion = Readonly<{ major: number; minor: number; patch: number }>;

/** `text` is the version with its suffix, for messages. */
type VersionLine =
  | Readonly<{ kind: 'mysql'; text: string; version: MysqlVersion }>
  | Readonly<{ kind: 'mariadb'; text: string }>;

/** `reason` continues a sentence whose subject is the server. */
type VersionVerdict =
  | Readonly<{ usable: true; text: string; version: MysqlVersion }>
  | Readonly<{ usable: false; reason: string }>;

/**
 * Parses a version line: `Ver 8.0.39-…` of MySQL and its builds (Percona Server, distributions),
 * `Ver 10.11.6-MariaDB-…` of MariaDB.
 *
 * @returns undefined when the line has no version
 */
export function parseVersionLine(output: string): VersionLine | undefined {
  const match = /\bVer ((\d+)\.(\d+)\.(\d+)\S*)/.exec(output);
  const text = match?.[1];
  if (!match || text === undefined) {
    return /mariadb/i.test(output) ? { kind: 'mariadb', text: 'of unknown version' } : undefined;
  }
  if (/mariadb/i.test(output)) return { kind: 'mariadb', text };
  const [major = 0, minor = 0, patch = 0] = match.slice(2, 5).map(Number);
  return { kind: 'mysql', text, version: { major, minor, patch } };
}

export function checkVersion(output: string): VersionVerdict {
  const line = parseVersionLine(output);
  if (!line) return { usable: false, reason: 'reports no MySQL version' };
  if (line.kind === 'mariadb') {
    const reason = `is MariaDB ${line.text}, not MySQL; otpd needs MySQL 8.0.19 or later`;
    return { usable: false, reason };
  }
  if (compareVersions(line.version, OLDEST_SUPPORTED) < 0) {
    return { usable: false, reason: `is MySQL ${line.text}; otpd needs 8.0.19 or later` };
  }
  return { usable: true, text: line.text, version: line.version };
}

/** Negative when `a` is older, 0 when equal. */
export function compareVersions(a: MysqlVersion, b: MysqlVersion): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch;
}
