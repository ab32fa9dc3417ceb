/** Started by small-disk.ts in a namespace whose file system is small: a durable MySQL on it. */
import { startMysqlServer } from '../../tools/mysql/server.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';

const server = await startMysqlServer({
  ...readMysqlSettings(process.env), folder: process.argv[2]!, durable: true, print: () => {},
});
process.send?.({ socketPath: server.socketPath });
process.once('disconnect', () => { void server.stop(); });
