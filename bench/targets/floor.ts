/**
 * The floor: one durable INSERT of one row for every POST, whatever it asks for. No service that
 * commits each request separately can be cheaper.
 */
import { randomBytes } from 'node:crypto';
import { runBaseline } from './baseline-server.ts';

const SCHEMA = `CREATE TABLE IF NOT EXISTS requests (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id VARCHAR(255) NOT NULL,
  purpose VARCHAR(100) NOT NULL,
  otp_id BINARY(16) NOT NULL,
  created_at DATETIME(6) NOT NULL
) ENGINE = InnoDB`;

const INSERT = 'INSERT INTO requests (user_id, purpose, otp_id, created_at) VALUES (?,?,?,NOW(6))';

await runBaseline({
  schema: [SCHEMA],
  open: async (pool) => async ({ userId, purpose }) => {
    const otpId = randomBytes(16);
    await pool.query(INSERT, [userId, purpose, otpId]);
    return { status: 201, body: { otp_id: otpId.toString('hex'), ttl: 300 } };
  },
});
