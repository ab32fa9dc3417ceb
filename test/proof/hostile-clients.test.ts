/** Well-behaved requests succeed while other clients are slow, vanish, pipeline or flood. */
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually, promptly } from '../harness/waiting.ts';
import { openClient, post as textOf } from '../http/raw-client.ts';
import { atOnce, decided, fresh, newEndUser } from './load.ts';

const GOOD_CLIENTS = 8;
const GOOD_REQUESTS = 400;
const BODY_BYTES = 200 * 1024 * 1024;

let database: TestDatabase;
let otpd: Otpd;

test.before(async () => {
  database = await createTestDatabase();
  otpd = await startOtpd({
    DB_SOCKET: database.settings.socketPath, DB_NAME: database.settings.database,
    DB_USER: database.settings.user, OTP_SECRETS: newSecretsText(),
    TRUSTED_PROXIES: '127.0.0.0/8',
  });
});
test.after(async () => {
  closeClient();
  otpd.stop();
  assert.is(await otpd.ended, 0);
  database.close();
});

function bytesOf({ user, address } = newEndUser(), headers: Record<string, string> = {}): string {
  return textOf('/otp/request', JSON.stringify({ user_id: user, purpose: 'login' }), {
    'Idempotency-Key': fresh('k'), 'X-Forwarded-For': address, ...headers,
  });
}

/** Sends well-behaved requests; each must get its code in time. */
async function serveAll(count = GOOD_REQUESTS): Promise<void> {
  let left = count;
  await atOnce(GOOD_CLIENTS, async () => {
    for (; left > 0; left -= 1) {
      const { user, address } = newEndUser();
      const key = fresh('k');
      const { status, text } = await promptly(() => decided(() => post({
        port: otpd.port, path: '/otp/request', body: { user_id: user, purpose: 'login' },
        address, key,
      })));
      assert.is(status, 201, text);
    }
  });
}

/** Sockets that all do the same, again and again until `stop`. */
class Attack {
  readonly #sockets = new Set<Socket>();
  #isOver = false;
  /** The number of sockets opened, and of those connected. */
  opened = 0;
  connected = 0;

  get open(): number {
    return this.#sockets.size;
  }

  /** Opens a socket, and another one when it closes if the attack is repeated. */
  start(begin: (socket: Socket) => void, isRepeated: boolean): void {
    const socket = connect({ port: otpd.port, host: '127.0.0.1', allowHalfOpen: true });
    this.opened += 1;
    this.#sockets.add(socket);
    socket.on('connect', () => {
      this.connected += 1;
      begin(socket);
    });
    socket.on('error', () => {});
    socket.on('end', () => socket.destroy());
    socket.on('data', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (isRepeated && !this.#isOver) this.start(begin, isRepeated);
    });
  }

  stop(): void {
    this.#isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function duringAttack(
  sockets: number,
  begin: (socket: Socket) => void,
  work: (attack: Attack) => Promise<void>,
  isRepeated = false,
): Promise<void> {
  const attack = new Attack();
  try {
    for (let at = 0; at < sockets; at += 1) attack.start(begin, isRepeated);
    await work(attack);
  } finally {
    attack.stop();
  }
}

test('2,000 sockets that send a byte of a header at a time do not hold up others', async () => {
  const bytes = bytesOf();
  const drip = (socket: Socket): void => {
    let at = 0;
    const timer = setInterval(() => socket.write(bytes[at++] ?? ''), 250);
    socket.on('close', () => clearInterval(timer));
  };
  await duringAttack(2000, drip, async (attack) => {
    await eventually('all are connected', () => attack.connected === 2000);
    await serveAll();
    assert.is(attack.open, 2000, 'a socket that times out is opened again');
  }, true);
});

test('silent sockets and sockets half-closed inside a body do not hold up others', async () => {
  let count = 0;
  const begin = (socket: Socket): void => {
    count += 1;
    if (count % 2 === 0) socket.end(bytesOf().slice(0, -5));
  };
  await duringAttack(1000, begin, () => serveAll());
});

test('a socket that pipelines 200 requests gets 17 responses and a 503', async () => {
  const many = (): string => Array.from({ length: 200 }, () => bytesOf()).join('');
  await duringAttack(10, (socket) => socket.write(many()), async (attack) => {
    await serveAll();
    await eventually('some are closed, and opened again', () => attack.opened > 10);
  }, true);
  const client = await openClient(otpd.port);
  client.send(many());
  for (let at = 0; at < 17; at += 1) assert.is((await client.readResponse()).status, 201);
  const shed = await client.readResponse();
  assert.equal([shed.status, shed.headers.get('retry-after'), shed.headers.get('connection')],
    [503, '1', 'close']);
  assert.is(await client.ended(), '');
  client.destroy();
});

test('a body of 200 MiB is not read, and its connection is closed', async () => {
  const block = Buffer.alloc(65_536, 0x20);
  let sent = 0;
  const begin = (socket: Socket): void => {
    const pump = (): void => {
      do sent += block.length; while (socket.write(block));
    };
    socket.on('drain', pump);
    socket.write(textOf('/otp/request', '', { 'Content-Length': String(BODY_BYTES) }), pump);
  };
  await duringAttack(8, begin, async (attack) => {
    await serveAll();
    await eventually('some have ended', () => attack.opened >= 16);
    // The rest of the body is at most what the kernels of both sides buffer.
    assert.ok(sent / attack.opened < BODY_BYTES / 8, `${sent} bytes of ${attack.opened}`);
  }, true);
});

test('a flood of refused requests does not hold up others', async () => {
  const endUser = newEndUser();
  for (let at = 0; at < 3; at += 1) {
    await post({ port: otpd.port, path: '/otp/request', address: endUser.address, key: fresh('k'),
      body: { user_id: endUser.user, purpose: 'login' } });
  }
  let refusals = 0;
  const begin = (socket: Socket): void => {
    socket.write(bytesOf(endUser));
    socket.on('data', (chunk: Buffer) => {
      if (chunk.includes('HTTP/1.1 429')) refusals += 1;
      socket.write(bytesOf(endUser));
    });
  };
  await duringAttack(32, begin, async () => {
    await eventually('they are refused', () => refusals > 32);
    await serveAll();
    await eventually('as many again are refused', () => refusals > GOOD_REQUESTS / 2);
  });
});

test('the service answers after the attacks and holds few connections', async () => {
  await serveAll(20);
  // MySQL notices later that a connection is closed.
  await eventually('few connections are open', async () => {
    const [row] = await database.query(`SELECT COUNT(*) AS n FROM information_schema.processlist
      WHERE db = ?`, [String(database.settings.database)]);
    return Number(row?.n) <= 18;
  });
});

test.run();
