/**
 * Ready-made parts: the MySQL store of rate-limiter-flexible, once for the user and once for the
 * client IP, and one INSERT. It has no idempotency, and its windows are fixed instead of rolling.
 */
import { createHmac, randomBytes, randomInt } from 'node:crypto';
import { RateLimiterMySQL, RateLimiterRes } from 'rate-limiter-flexible';
import type { Pool } from 'mysql2/promise';
import { runBaseline } from './baseline-server.ts';

const SECRET = randomBytes(32);

const SCHEMA = `CREATE TABLE IF NOT EXISTS otps (
  otp_id BINARY(16) NOT NULL PRIMARY KEY,
  user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  purpose VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  digest BINARY(32) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  KEY newest (user_id, purpose, expires_at)
) ENGINE = InnoDB`;

const INSERT = `INSERT INTO otps (otp_id, user_id, purpose, digest, expires_at)
  VALUES (?,?,?,?,NOW(6) + INTERVAL 300 SECOND)`;

function openLimiter(pool: Pool, name: string, points: number): Promise<RateLimiterMySQL> {
  return new Promise((resolve, reject) => {
    const limiter: RateLimiterMySQL = new RateLimiterMySQL({
      storeClient: pool.pool,
      storeType: 'pool',
      dbName: process.env.DB_NAME ?? '',
      tableName: `limit_${name}`,
      keyPrefix: name,
      points,
      duration: 900,
    }, (error?: Error) => (error ? reject(error) : resolve(limiter)));
  });
}

await runBaseline({
  schema: [SCHEMA],
  open: async (pool) => {
    const users = await openLimiter(pool, 'user', 3);
    const clientIps = await openLimiter(pool, 'ip', 8);
    return async ({ userId, purpose, clientIp }) => {
      try {
        await users.consume(userId);
        await clientIps.consume(clientIp);
      } catch (refusal) {
        if (!(refusal instanceof RateLimiterRes)) throw refusal;
        return { status: 429, body: { error: 'rate_limit_exceeded' } };
      }
      const otpId = randomBytes(16);
      const code = String(randomInt(1_000_000)).padStart(6, '0');
      const digest = createHmac('sha256', SECRET).update(otpId).update(code).digest();
      await pool.query(INSERT, [otpId, userId, purpose, digest]);
      return { status: 201, body: { otp_id: otpId.toString('hex'), ttl: 300 } };
    };
  },
});
