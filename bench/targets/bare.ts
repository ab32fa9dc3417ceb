/**
 * Nothing: reads the request and answers, and asks no database. What no service of one process on
 * node:http gets beyond on the machine, unless it reads and answers with less.
 */
import { randomBytes } from 'node:crypto';
import { runBaseline } from './baseline-server.ts';

await runBaseline({
  schema: [],
  open: async () => async () =>
    ({ status: 201, body: { otp_id: randomBytes(16).toString('hex'), ttl: 300 } }),
});
