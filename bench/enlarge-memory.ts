/** Gives MySQL as much memory as full tables take, which is what a machine for them would have. */
import mysql from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab } from './lab.ts';
import type { Target } from './target.ts';

const BUFFER_POOL_BYTES = 4 * 2 ** 30;
const REDO_LOG_BYTES = 2 * 2 ** 30;

const RESIZE_POLL_MS = 100;
const RESIZE_POLLS_MAX = 600;

/** Reads every row once, and every entry of the other indexes. */
const WARMING = [
  'SELECT COUNT(digest) FROM otps',
  'SELECT COUNT(*) FROM otps FORCE INDEX (by_user) WHERE user_id >= ""',
  'SELECT COUNT(*) FROM otps FORCE INDEX (by_key) WHERE key_digest >= ""',
];

/**
 * Enlarges the buffer pool and the redo log, and reads the tables of a service into memory.
 *
 * @throws when the server does not get there within a minute
 */
export async function enlargeMemory(lab: Lab, { settings }: Target): Promise<void> {
  await lab.counters.run(`SET GLOBAL innodb_redo_log_capacity = ${REDO_LOG_BYTES}`);
  await lab.counters.run(`SET GLOBAL innodb_buffer_pool_size = ${BUFFER_POOL_BYTES}`);
  const session = await mysql.createConnection({
    socketPath: lab.server.socketPath, user: 'root', database: settings.database ?? '',
  });
  for (let polls = 0; ; polls += 1) {
    const [rows] = await session.query<RowDataPacket[]>(
      "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_resize_status_code'");
    if (Number(rows[0]?.Value) === 0) break;
    if (polls === RESIZE_POLLS_MAX) throw new Error('the buffer pool was not enlarged in time');
    await delay(RESIZE_POLL_MS);
  }
  for (const sql of WARMING) await session.query(sql);
  await session.end();
}
