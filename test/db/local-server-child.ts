/** Runs a private server in a folder, says its process id, and lives until it is killed. */
import { startLocalServer } from '../../src/db/local/launch.ts';
import { realOptions } from './local-fixture.ts';

const server = await startLocalServer(realOptions(process.argv[2] ?? ''));
console.log(String(server.processId));
await server.exited;
