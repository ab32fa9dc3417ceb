/** A port for a process that cannot choose one itself. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Linux takes the ports that it chooses for other sockets from above these (ip(7)). */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;

/** Finds a port of 127.0.0.1 on which nothing listens, and no other test will by chance. */
export async function freePort(): Promise<number> {
  const port = randomInt(PORT_MIN, PORT_MAX);
  const server = createServer().listen(port, '127.0.0.1');
  const isFree = await once(server, 'listening').then(() => true, () => false);
  if (!isFree) return freePort();
  server.close();
  await once(server, 'close');
  return port;
}
