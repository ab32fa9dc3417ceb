/** The numbered files of schema/, as the runner and the service know them. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** One file: its number, its name without the ending, its statements in order. */
export type SchemaFile = Readonly<{ version: number; name: string; statements: string[] }>;

/** schema/ beside src/ and beside dist/ alike. */
export const SCHEMA_FOLDER = fileURLToPath(new URL('../../schema/', import.meta.url));

const FILE_NAME = /^(\d{4})-[a-z0-9-]+\.sql$/;

/**
 * Reads the schema files of a folder.
 *
 * @returns the files by number
 * @throws Error when a file is misnamed, or the numbers are not 1, 2, 3 …
 */
export function readSchemaFiles(folder: string = SCHEMA_FOLDER): SchemaFile[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.sql')).sort();
  return names.map((fileName, index) => {
    const version = Number(FILE_NAME.exec(fileName)?.[1]);
    if (version !== index + 1) throw new Error(`schema/${fileName} is not numbered ${index + 1}`);
    const statements = splitStatements(readFileSync(`${folder}/${fileName}`, 'utf8'));
    return { version, name: fileName.replace(/\.sql$/, ''), statements };
  });
}

/**
 * Splits the text of a schema file: a statement ends with a semicolon at the end of a line, a
 * comment is a line that starts with `--`.
 */
export function splitStatements(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('--'));
  const parts = lines.join('\n').split(/;[ \t]*(?:\n|$)/);
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}
