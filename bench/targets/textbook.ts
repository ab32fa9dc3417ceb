/**
 * The textbook: each request in a transaction of its own with nine statements, after an upsert of
 * the user's row. READ COMMITTED, because REPEATABLE READ would deadlock on gap locks.
 */
import { createHash, createHmac, randomBytes, randomInt } from 'node:crypto';
import type { PoolConnection, RowDataPacket } from 'mysql2/promise';
import { runBaseline } from './baseline-server.ts';
import type { Call, Reply } from './baseline-server.ts';

const USER_LIMIT = 3;
const CLIENT_IP_LIMIT = 8;
const SECRET = randomBytes(32);

const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS users (
    user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL PRIMARY KEY
  ) ENGINE = InnoDB`,
  `CREATE TABLE IF NOT EXISTS otps (
    otp_id BINARY(16) NOT NULL PRIMARY KEY,
    user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    purpose VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    digest BINARY(32) NOT NULL,
    created_at DATETIME(6) NOT NULL,
    expires_at DATETIME(6) NOT NULL,
    KEY newest (user_id, purpose, created_at)
  ) ENGINE = InnoDB`,
  `CREATE TABLE IF NOT EXISTS user_rates (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    used_at DATETIME(6) NOT NULL,
    KEY recent (user_id, used_at)
  ) ENGINE = InnoDB`,
  `CREATE TABLE IF NOT EXISTS ip_rates (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    client_ip VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    used_at DATETIME(6) NOT NULL,
    KEY recent (client_ip, used_at)
  ) ENGINE = InnoDB`,
  `CREATE TABLE IF NOT EXISTS idempotency_keys (
    key_digest BINARY(32) NOT NULL PRIMARY KEY,
    body VARCHAR(200) NOT NULL,
    created_at DATETIME(6) NOT NULL
  ) ENGINE = InnoDB`,
];

const REFUSED: Reply = { status: 429, body: { error: 'rate_limit_exceeded' } };

async function count(connection: PoolConnection, sql: string, value: string): Promise<number> {
  const [rows] = await connection.query<RowDataPacket[]>(sql, [value]);
  return Number(rows[0]?.n);
}

async function request(connection: PoolConnection, call: Call): Promise<Reply> {
  const { userId, purpose, clientIp, key } = call;
  await connection.query('SELECT user_id FROM users WHERE user_id = ? FOR UPDATE', [userId]);
  const ofUser = await count(connection, `SELECT COUNT(*) AS n FROM user_rates
    WHERE user_id = ? AND used_at > NOW(6) - INTERVAL 900 SECOND`, userId);
  const ofClientIp = await count(connection, `SELECT COUNT(*) AS n FROM ip_rates
    WHERE client_ip = ? AND used_at > NOW(6) - INTERVAL 900 SECOND`, clientIp);
  if (ofUser >= USER_LIMIT || ofClientIp >= CLIENT_IP_LIMIT) return REFUSED;
  const otpId = randomBytes(16);
  const code = String(randomInt(1_000_000)).padStart(6, '0');
  const digest = createHmac('sha256', SECRET).update(otpId).update(code).digest();
  const body = { otp_id: otpId.toString('hex'), ttl: 300, remaining_requests: 2 - ofUser };
  await connection.query(`INSERT INTO otps
    (otp_id, user_id, purpose, digest, created_at, expires_at)
    VALUES (?,?,?,?,NOW(6),NOW(6) + INTERVAL 300 SECOND)`, [otpId, userId, purpose, digest]);
  await connection.query('INSERT INTO user_rates (user_id, used_at) VALUES (?,NOW(6))', [userId]);
  await connection.query('INSERT INTO ip_rates (client_ip, used_at) VALUES (?,NOW(6))', [clientIp]);
  await connection.query('INSERT INTO idempotency_keys VALUES (?,?,NOW(6))',
    [createHash('sha256').update(key).digest(), JSON.stringify(body)]);
  return { status: 201, body };
}

await runBaseline({
  schema: SCHEMA,
  open: async (pool) => {
    pool.pool.on('connection', (connection) => {
      connection.query('SET transaction_isolation = \'READ-COMMITTED\'');
    });
    return async (call) => {
      const connection = await pool.getConnection();
      try {
        await connection.query('INSERT IGNORE INTO users VALUES (?)', [call.userId]);
        await connection.query('BEGIN');
        const reply = await request(connection, call);
        await connection.query(reply.status === 201 ? 'COMMIT' : 'ROLLBACK');
        return reply;
      } catch (error) {
        await connection.query('ROLLBACK');
        throw error;
      } finally {
        connection.release();
      }
    };
  },
});
