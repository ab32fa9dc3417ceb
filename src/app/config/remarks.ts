/**
 * Remarks on a configuration that is valid but probably not what was meant: a variable whose name
 * is nearly one of otpd's, and a line of `.env` that is read differently from how it looks.
 */
import { existsSync, readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { quoteAscii } from '../../otp/channels/console.ts';
import { CHANNEL_NAMES } from '../../otp/channels/channel.ts';
import { findMeant } from '../../otp/policy/names.ts';
import { envFilePath, readServeConfig } from './config.ts';
import type { Environment } from './env-reader.ts';

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
    const meant = findMeant(name, known);
    const found = `${quoteAscii(name)} is not a variable of otpd`;
    return meant === undefined ? [] : [{ found, remedy: `did you mean ${meant}?` }];
  });
}

/** Every variable that the readers of the configuration ask for, with all channels in use. */
function listKnownNames(): ReadonlySet<string> {
  const asked = new Set<string>();
  // A value that is present opens the branches of the readers; their errors do not matter here.
  const environment = new Proxy<Record<string, string>>({}, {
    get: (_, name) => {
      asked.add(String(name));
      return name === 'DELIVERY' ? CHANNEL_NAMES.join() : '/';
    },
  });
  try {
    readServeConfig(environment);
  } catch {
    // The values are all invalid.
  }
  return asked;
}

const ASSIGNMENT = /^[ \t]*(?:export[ \t]+)?([\w.-]+)[ \t]*=(.*)$/;

const BYTE_ORDER_MARK: Remark = Object.freeze({
  found: '.env begins with a byte order mark, which becomes part of the first name',
  remedy: 'save it as UTF-8 without one',
});

/** @param text the content of `.env` */
export function remarksOnEnvFile(text: string): Remark[] {
  const remarks = text.startsWith('\ufeff') ? [BYTE_ORDER_MARK] : [];
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  const seen = new Set<string>();
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index]!;
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name, given = ''] = ASSIGNMENT.exec(line) ?? [];
    const where = `line ${index + 1} of .env`;
    const end = findEndOfQuotes(lines, index);
    if (name === undefined) {
      remarks.push({ found: `${where} is ignored`, remedy: 'write NAME=VALUE or # COMMENT' });
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
  const [, quote, rest = ''] = /^[^=]*=\s*(["'`])(.*)$/.exec(lines[start]!) ?? [];
  if (quote === undefined || rest.includes(quote)) return start;
  return Math.max(start, lines.findIndex((line, index) => index > start && line.includes(quote)));
}

/** Quotes around the whole value, and a comment after a blank, are meant as such. */
function isTakenAsWritten(name: string, line: string, given: string): boolean {
  const quoted = /^(["'`])(.*)\1\s*(#.*)?$/.exec(given);
  const isWhole = quoted !== null && !quoted[2]!.includes(quoted[1]!);
  const written = isWhole ? quoted[2]! : given.replace(/\s+#.*$/, '');
  return parseEnv(line.trim())[name] === written;
}
