/**
 * No work: reads the request and answers without a database. One process on node:http cannot be
 * faster on the machine unless it parses and writes less.
 */
import { randomBytes } from 'node:crypto';
import { runBaseline } from './baseline-server.ts';

await runBaseline({
  schema: [],
  open: async () => async () =>
    ({ status: 201, body: { otp_id: randomBytes(16).toString('hex'), ttl: 300 } }),
});
