/** How the tables of a database are, as the server tells it. */
import type { Row, Connection } from './connection.ts';
import { indexText, plainType } from './table-layout.ts';
import type { Layout, TableLayout } from './table-layout.ts';

const TABLES_SQL = `SELECT table_name AS name, engine AS engine
  FROM information_schema.tables WHERE table_schema = DATABASE()`;
const COLUMNS_SQL = `SELECT table_name AS owner, column_name AS name, column_type AS type,
    is_nullable AS is_nullable, collation_name AS collation
  FROM information_schema.columns WHERE table_schema = DATABASE()`;
const INDEXES_SQL = `SELECT table_name AS owner, index_name AS name, MAX(non_unique) AS non_unique,
    GROUP_CONCAT(column_name ORDER BY seq_in_index) AS columns
  FROM information_schema.statistics WHERE table_schema = DATABASE()
  GROUP BY table_name, index_name`;

/** Reads all tables that the account may see. */
export async function readLayout(session: Connection): Promise<Layout> {
  const layout: Layout = new Map();
  for (const { name, engine } of await session.run('layout.tables', TABLES_SQL, [])) {
    const table: TableLayout = { engine: String(engine), columns: new Map(), indexes: new Map() };
    layout.set(String(name), table);
  }
  for (const row of await session.run('layout.columns', COLUMNS_SQL, [])) {
    layout.get(String(row.owner))?.columns.set(String(row.name), {
      type: plainType(String(row.type)),
      isNullable: row.is_nullable === 'YES',
      collation: row.collation as string | null,
    });
  }
  for (const row of await session.run('layout.indexes', INDEXES_SQL, [])) {
    layout.get(String(row.owner))?.indexes.set(String(row.name), textOf(row));
  }
  return layout;
}

function textOf(row: Row): string {
  return indexText(Number(row.non_unique) === 0, String(row.columns).split(','));
}
