/** Whether the tables are as the schema files make them. */
import type { ColumnLayout, Layout, TableLayout } from '../../../db/table-layout.ts';
import { fault, ok, warn } from './finding.ts';
import type { Finding } from './finding.ts';

/** Compares the tables that should be with those that are. */
export function judgeTables(wanted: Layout, found: Layout): Finding[] {
  const findings = [...wanted].flatMap(([name, table]) => {
    const other = found.get(name);
    return other === undefined
      ? [fault('tables', `${name} is missing, or the account may not see it`,
        'grant SELECT on it, or restore it from a backup')]
      : judgeTable(name, table, other);
  });
  if (findings.length > 0) return findings;
  return [ok('tables', `${wanted.size}, with the engine, columns and indexes of the schema files`)];
}

function judgeTable(name: string, wanted: TableLayout, found: TableLayout): Finding[] {
  const findings: Finding[] = [];
  if (found.engine !== wanted.engine) {
    findings.push(fault('tables', `${name} has the engine ${found.engine}`,
      `ALTER TABLE ${name} ENGINE = ${wanted.engine}`));
  }
  for (const [column, layout] of wanted.columns) {
    const is = textOf(found.columns.get(column), layout);
    const should = textOf(layout, layout);
    if (is !== should) {
      findings.push(fault('tables', `${name}.${column} is ${is}, not ${should}`,
        `make it ${should} again, as schema/*.sql has it`));
    }
  }
  for (const [index, columns] of wanted.indexes) {
    const is = found.indexes.get(index);
    if (is === columns) continue;
    findings.push(fault('tables', `the index ${name}.${index} is ${is ?? 'missing'}`,
      `${is === undefined ? '' : 'drop it, then '}${addIndex(name, index, columns)}`));
  }
  return [...findings, ...judgeSurplus(name, wanted, found)];
}

function addIndex(table: string, index: string, columns: string): string {
  const list = columns.replace('UNIQUE ', '');
  const kind = index === 'PRIMARY' ? 'PRIMARY KEY'
    : `${list === columns ? '' : 'UNIQUE '}KEY ${index}`;
  return `ALTER TABLE ${table} ADD ${kind} ${list}`;
}

function judgeSurplus(name: string, wanted: TableLayout, found: TableLayout): Finding[] {
  const columns = [...found.columns.keys()].filter((column) => !wanted.columns.has(column));
  const indexes = [...found.indexes.keys()].filter((index) => !wanted.indexes.has(index));
  if (columns.length + indexes.length === 0) return [];
  const list = [...columns.map((column) => `column ${column}`),
    ...indexes.map((index) => `index ${index}`)].join(', ');
  return [warn('tables', `${name} has more than the schema files make: ${list}`,
    'drop it: every request pays for it, and a migration may fail on it')];
}

/** A collation counts only where one is prescribed. */
function textOf(column: ColumnLayout | undefined, wanted: ColumnLayout): string {
  if (column === undefined) return 'missing';
  const collation = wanted.collation === null ? '' : ` ${column.collation}`;
  return `${column.type}${collation}${column.isNullable ? '' : ' not null'}`;
}
