/** The template files of a folder: their names, and their texts as far as they can be read. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isLanguageTag } from './language-tags.ts';

/** What a template is for: the text for a phone, a console or a webhook; the parts of an e-mail. */
export type TemplatePart = 'txt' | 'subject.txt' | 'email.txt' | 'html';

/** What a file's name says. */
type TemplateName = Readonly<{
  /** `default` stands for every purpose without a file of its own. */
  purpose: string;
  /** A tag in lower case. */
  language: string;
  part: TemplatePart;
}>;

/** One file. */
export type TemplateFile = TemplateName & Readonly<{
  path: string;
  /** Lines end with LF; no empty line at the end. */
  text: string;
}>;

const FILE_MAX_BYTES = 64 * 1024;

/** No locale is tried first: `default.email.txt` has none. */
const FILE_NAME = new RegExp('^([A-Za-z0-9_-]{1,100})(?:\\.([A-Za-z0-9-]+))??'
  + '\\.(txt|subject\\.txt|email\\.txt|html)$');
const NAME_RULE = 'must be named PURPOSE.PART or PURPOSE.LOCALE.PART: a PURPOSE of letters, digits,'
  + ' _ and -, a LOCALE such as de or pt-BR, a PART of txt, subject.txt, email.txt or html';

/**
 * Reads the templates of a folder. Names that begin with a dot are passed over.
 *
 * @param ownLanguage of the files without a locale: a tag in lower case
 * @param faults where what is wrong goes, each with its path and what is allowed
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
    if (seen.has(key)) errors.push(`${path} must be there once: another file is for the same`);
    seen.add(key);
    const text = readText(path);
    if ('error' in text) errors.push(`${path} ${text.error}`);
    else files.push({ path, ...known, text: text.text });
  }
  return files;
}

/** One text for all files that are for the same. */
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
  const rule = `must be a file of at most ${FILE_MAX_BYTES / 1024} KiB that can be read`;
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
