/** Reads the template files of a folder. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TemplatePart } from '../channels/channel.ts';
import { isLanguageTag } from './language-tags.ts';

type TemplateName = Readonly<{
  /** `default` stands for every purpose without a file of its own. */
  purpose: string;
  /** A language tag in lower case. */
  language: string;
  part: TemplatePart;
}>;

export type TemplateFile = TemplateName & Readonly<{
  path: string;
  /** Lines end with LF, and the text has no final line feed. */
  text: string;
}>;

const FILE_MAX_BYTES = 64 * 1024;

/** The locale is lazy, so that `default.email.txt` has none. */
const FILE_NAME = new RegExp('^([A-Za-z0-9_-]{1,100})(?:\\.([A-Za-z0-9-]+))??'
  + '\\.(txt|subject\\.txt|email\\.txt|html)$');
const NAME_RULE = 'must be named PURPOSE.PART or PURPOSE.LOCALE.PART: a PURPOSE of letters, digits,'
  + ' _ and -, a LOCALE such as de or pt-BR, a PART of txt, subject.txt, email.txt or html';

const UNIQUE_RULE = 'must not repeat the purpose, locale and part of another file';

/**
 * Skips names that begin with a dot.
 * @param ownLanguage the language of the files without a locale, in lower case
 * @param errors receives each error with its path and what is allowed
 * @throws Error with a `code` when the folder cannot be read
 */
export function readTemplateFiles(
  folder: string,
  ownLanguage: string,
  errors: string[],
): TemplateFile[] {
  const files: TemplateFile[] = [];
  const seen = new Set<string>();
  for (const name of readdirSync(folder).sort().filter((each) => !each.startsWith('.'))) {
    const path = join(folder, name);
    const known = parseFileName(name, ownLanguage);
    if (known === null) {
      errors.push(`${path} ${NAME_RULE}`);
      continue;
    }
    const key = templateKey(known);
    if (seen.has(key)) errors.push(`${path} ${UNIQUE_RULE}`);
    seen.add(key);
    const text = readText(path);
    if ('error' in text) errors.push(`${path} ${text.error}`);
    else files.push({ path, ...known, text: text.text });
  }
  return files;
}

/** Equal for files that render the same part of the same message. */
export function templateKey({ purpose, language, part }: TemplateName): string {
  return `${purpose}/${language}/${part}`;
}

function parseFileName(fileName: string, ownLanguage: string): TemplateName | null {
  const match = FILE_NAME.exec(fileName);
  if (match === null) return null;
  const [, purpose = '', locale = ownLanguage, part] = match;
  const language = locale.toLowerCase();
  return isLanguageTag(language) ? { purpose, language, part: part as TemplatePart } : null;
}

function readText(path: string): { text: string } | { error: string } {
  const rule = `must be a readable file of at most ${FILE_MAX_BYTES / 1024} KiB`;
  try {
    const status = statSync(path);
    if (!status.isFile() || status.size > FILE_MAX_BYTES) return { error: rule };
    const text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
    return { text: text.replace(/\r\n/g, '\n').replace(/\n+$/, '') };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return { error: 'must be UTF-8' };
    return { error: `${rule} (${code})` };
  }
}
