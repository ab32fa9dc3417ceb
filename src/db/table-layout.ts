/** How the schema files make the tables, read from their statements. */
import type { SchemaFile } from './migrate.ts';

/** A column. `collation` is null when the column has none, or none is prescribed. */
export type ColumnLayout = Readonly<{
  type: string;
  isNullable: boolean;
  collation: string | null;
}>;

/** A table: its columns and indexes by name. An index is a text such as `UNIQUE (key_digest)`. */
export type TableLayout = {
  engine: string;
  readonly columns: Map<string, ColumnLayout>;
  readonly indexes: Map<string, string>;
};

/** Tables by name. */
export type Layout = Map<string, TableLayout>;

const CREATE = /^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(\n([^]*)\n\) ENGINE = (\w+)$/;
const ALTER = /^ALTER TABLE (\w+)\s+([^]*)$/;
const PRIMARY = /^PRIMARY KEY \(([\w, ]+)\)$/;
const KEY = /^(UNIQUE )?(?:KEY|INDEX) (\w+) \(([\w, ]+)\)$/;
const COLUMN = /^(\w+) (\w+(?:\(\d+\))?(?: UNSIGNED)?)(.*)$/;
const BETWEEN_PARTS = /,\s*\n\s*/;

/**
 * Follows the statements of the files, which are written one column or key a line.
 *
 * @throws Error for a change of a table that it does not understand
 */
export function layoutOf(files: readonly SchemaFile[]): Layout {
  const layout: Layout = new Map();
  for (const sql of files.flatMap(({ statements }) => statements)) {
    const create = CREATE.exec(sql);
    const alter = ALTER.exec(sql);
    if (create !== null) {
      const [, name, body, engine] = create as unknown as [string, string, string, string];
      const table: TableLayout = { engine, columns: new Map(), indexes: new Map() };
      for (const part of body.trim().split(BETWEEN_PARTS)) add(table, part);
      layout.set(name, table);
    } else if (alter !== null) {
      const [, name, body] = alter as unknown as [string, string, string];
      const table = layout.get(name);
      if (table === undefined) throw new Error(`no such table: ${sql}`);
      for (const part of body.trim().split(BETWEEN_PARTS)) change(table, part);
    } else if (/^(CREATE|DROP|RENAME) /.test(sql)) throw new Error(`not understood: ${sql}`);
  }
  return layout;
}

function change(table: TableLayout, part: string): void {
  if (part === 'DROP PRIMARY KEY') {
    table.indexes.delete('PRIMARY');
    return;
  }
  const [, action, rest] = /^(ADD COLUMN|MODIFY COLUMN|DROP COLUMN|ADD|DROP KEY) (.*)$/.exec(part)
    ?? [];
  if (rest === undefined) throw new Error(`not understood: ${part}`);
  if (action === 'DROP COLUMN') table.columns.delete(rest);
  else if (action === 'DROP KEY') table.indexes.delete(rest);
  else add(table, rest);
}

function add(table: TableLayout, part: string): void {
  const primary = PRIMARY.exec(part);
  const key = KEY.exec(part);
  const column = COLUMN.exec(part);
  if (primary !== null) table.indexes.set('PRIMARY', indexText(true, primary[1]!.split(', ')));
  else if (key !== null) {
    table.indexes.set(key[2]!, indexText(key[1] !== undefined, key[3]!.split(', ')));
  } else if (column !== null) {
    const [, name, type, rest] = column as unknown as [string, string, string, string];
    table.columns.set(name, {
      type: plainType(type),
      isNullable: !rest.includes('NOT NULL'),
      collation: /COLLATE (\w+)/.exec(rest)?.[1] ?? null,
    });
  } else throw new Error(`not understood: ${part}`);
}

/** An index in words. */
export function indexText(isUnique: boolean, columns: readonly string[]): string {
  return `${isUnique ? 'UNIQUE ' : ''}(${columns.join(', ')})`;
}

/** A type in the one spelling that is compared: servers differ in the widths of integers. */
export function plainType(type: string): string {
  return type.toLowerCase().replace(/int\(\d+\)/, 'int').replace(/^boolean$/, 'tinyint');
}
