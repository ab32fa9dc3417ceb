/** Started by small-disk.ts in a namespace whose file system is small: a durable MySQL on it. */
import { readConfig } from '../../src/app/config/config.ts';
import { startLocalServer } from '../../src/db/local/launch.ts';

const { PATH, HOME, XDG_CACHE_HOME, MYSQLD } = process.env;
const { local } = readConfig({ PATH, HOME, XDG_CACHE_HOME, MYSQLD });
const server = await startLocalServer({
  ...local, folder: process.argv[2]!, durable: true, say: () => {},
});
process.send?.({ socketPath: server.socketPath });
process.once('disconnect', () => { void server.stop(); });
