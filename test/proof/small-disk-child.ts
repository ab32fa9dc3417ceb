/** Started by small-disk.ts in a namespace whose file system is small: a durable MySQL on it. */
import { startTestMysql } from '../harness/mysql.ts';

const server = await startTestMysql({ folder: process.argv[2]!, durable: true });
process.send?.({ socketPath: server.socketPath });
process.once('disconnect', () => { void server.stop(); });
