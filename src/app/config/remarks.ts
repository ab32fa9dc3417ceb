/**
 * Remarks on a configuration that is valid but probably not what was meant: a variable whose name
 * is nearly one of otpd's, and a line of `.env` that is read differently from how it looks.
 */
import { existsSync, readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { CHANNEL_NAMES } from '../../otp/channels/channel.ts';
import { envFilePath, readServeConfig } from './config.ts';
import type { Environment } from './env-reader.ts';

/** One slip is allowed for each seven characters of a name, or a part of seven. */
const CHARACTERS_PER_SLIP = 7;

/** A remark contains names and no values. */
type Remark = Readonly<{ found: string; remedy: string }>;

export function remarksOn(environment: Environment): Remark[] {
  const path = envFilePath();
  const lines = existsSync(path) ? remarksOnEnvFile(readFileSync(path, 'utf8')) : [];
  return [...lines, ...remarksOnNames(Object.keys(environment))];
}

export function remarksOnNames(names: readonly string[]): Remark[] {
  const known = listKnownNames();
  return names.filter((name) => !known.has(name)).flatMap((name) => {
    const meant = [...known].find((each) => isNearly(name, each));
    const found = `${JSON.stringify(name)} is no variable of otpd`;
    return meant === undefined ? [] : [{ found, remedy: `did you mean ${meant}?` }];
  });
}

/** Every variable that the readers of the configuration ask for, with all channels in use. */
function listKnownNames(): ReadonlySet<string> {
  const asked = new Set<string>();
  const delivery = CHANNEL_NAMES.join();
  // A value that is present opens the branches of the readers; their errors do not matter here.
  const environment = new Proxy<Record<string, string>>({}, {
    get: (_, name) => {
      asked.add(String(name));
      return name === 'DELIVERY' ? delivery : '/';
    },
  });
  try {
    readServeConfig(environment);
  } catch {
    // The values are all invalid.
  }
  return asked;
}

function isNearly(name: string, known: string): boolean {
  const [one, other] = [name.toUpperCase(), known];
  const [shorter, longer] = one.length < other.length ? [one, other] : [other, one];
  // DB_PASS and DB_USERNAME: the same word, cut or continued.
  const isContinued = shorter.includes('_') && longer.startsWith(shorter)
    && !longer.slice(shorter.length).includes('_');
  return isContinued || distance(one, other) <= Math.ceil(known.length / CHARACTERS_PER_SLIP);
}

/** How many insertions, deletions, substitutions and swaps of neighbours turn a into b. */
function distance(a: string, b: string): number {
  let [before, above]: [number[], number[]] = [[], [...Array(b.length + 1).keys()]];
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const isSame = a[row - 1] === b[column - 1];
      const isSwap = row > 1 && column > 1
        && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current.push(Math.min(above[column]! + 1, current[column - 1]! + 1,
        above[column - 1]! + (isSame ? 0 : 1), isSwap ? before[column - 2]! + 1 : Infinity));
    }
    [before, above] = [above, current];
  }
  return above[b.length]!;
}

const ASSIGNMENT = /^\s*(?:export\s+)?([\w.-]+)\s*=(.*)$/;

/** @param text the content of `.env` */
export function remarksOnEnvFile(text: string): Remark[] {
  const remarks: Remark[] = [];
  if (text.startsWith('\ufeff')) {
    remarks.push({
      found: '.env begins with a byte order mark, which becomes part of the first name',
      remedy: 'save it as UTF-8 without one',
    });
  }
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  const seen = new Set<string>();
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index]!;
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name, given = ''] = ASSIGNMENT.exec(line) ?? [];
    const where = `line ${index + 1} of .env`;
    const end = findEndOfQuotes(lines, index);
    if (name === undefined) {
      const remedy = 'write NAME=VALUE, or # before a comment';
      remarks.push({ found: `${where} is ignored`, remedy });
    } else if (seen.has(name)) {
      remarks.push({ found: `${where} sets ${name} again`, remedy: 'remove the earlier line' });
    } else if (end === index && !isTakenAsWritten(name, line, given.trim())) {
      const found = `${where} does not give ${name} the value that it shows`;
      remarks.push({ found, remedy: 'put the value in single quotes' });
    }
    if (name !== undefined) seen.add(name);
    index = end;
  }
  return remarks;
}

/** The index of the line that ends a quoted value of several lines; the same line for any other. */
function findEndOfQuotes(lines: readonly string[], start: number): number {
  const quote = /^[^=]*=\s*(["'`])/.exec(lines[start]!)?.[1];
  if (quote === undefined) return start;
  const rest = lines[start]!.slice(lines[start]!.indexOf(quote) + 1);
  if (rest.includes(quote)) return start;
  const end = lines.findIndex((line, index) => index > start && line.includes(quote));
  return end === -1 ? start : end;
}

/** Quotes around the whole value, and a comment after a blank, are meant as such. */
function isTakenAsWritten(name: string, line: string, given: string): boolean {
  const quoted = /^(["'`])(.*)\1\s*(#.*)?$/.exec(given);
  const isWhole = quoted !== null && !quoted[2]!.includes(quoted[1]!);
  const written = isWhole ? quoted[2]! : given.replace(/\s+#.*$/, '');
  return parseEnv(line.trim())[name] === written;
}
