/** Runs a server in a folder, prints the id of mysqld, and waits to be killed. */
import { startMysqlServer } from '../../tools/mysql/server.ts';
import { realOptions } from './fixture.ts';

const server = await startMysqlServer(realOptions(process.argv[2] ?? ''));
console.log(String(server.processId));
await server.exited;
