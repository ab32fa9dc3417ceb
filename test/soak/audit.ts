/** The data in MySQL: whether each acknowledged write exists, and which connections are open. */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { Service } from './faults.ts';
import type { Observations } from './observations.ts';

async function withConnection<T>(
  { server: { socketPath }, target: { databaseName } }: Service,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const options = { socketPath, user: 'root', database: databaseName };
  const connection = await mysql.createConnection(options);
  return work(connection).finally(() => connection.destroy());
}

/** The open connections of otpd. */
export async function countConnections(service: Service): Promise<number> {
  return withConnection(service, async (connection) => {
    const [rows] = await connection.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM
      information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()`);
    return Number(rows[0]?.n);
  });
}

/** Counts acknowledged writes that are lost, and two sums that must be equal. */
export async function audit(service: Service, { issued, redeemed }: Observations) {
  return withConnection(service, async (connection) => {
    const column = async (sql: string): Promise<Set<string>> => {
      const [rows] = await connection.query<RowDataPacket[]>(sql);
      return new Set(rows.map(({ id }) => String(id)));
    };
    const codes = await column(
      'SELECT LOWER(HEX(otp_id)) AS id FROM otps WHERE key_digest IS NOT NULL');
    const users = await column('SELECT user_id AS id FROM otps WHERE redeemed_at IS NOT NULL');
    const [points] = await connection.query<RowDataPacket[]>(
      'SELECT COALESCE(SUM(points), 0) AS n FROM ip_rate_limits');
    const lost = issued.filter((id) => !codes.has(id)).length
      + redeemed.filter((id) => !users.has(id)).length;
    return { lost, codes: codes.size, points: Number(points[0]?.n) };
  });
}
