/** A durable MySQL on a small file system; small-disk.ts starts this program in a namespace. */
import { startTestMysql } from '../harness/mysql.ts';

const server = await startTestMysql({ folder: process.argv[2]!, durable: true });
process.send?.({ socketPath: server.socketPath });
process.once('disconnect', () => { void server.stop(); });
