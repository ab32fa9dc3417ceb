/**
 * Workers that are killed at any moment: a connection is answered or closed, never left open, and
 * the service comes back. OTPD_TEST_SEED repeats a run.
 */
import { copyFileSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { newVariables } from '../harness/command.ts';
import { freePort } from '../harness/free-port.ts';
import { childrenOf, startOtpd } from '../harness/otpd.ts';
import { endAll, finish, start, until, withFolder } from '../harness/run.ts';
import { eventually, promptly } from '../harness/waiting.ts';

const STARTS = 6;

/**
 * More than 10 deaths within a minute end otpd. A replacement may add one, because MySQL does not
 * always answer in time on a busy machine.
 */
const DEATHS_PER_START = 5;

/**
 * A connection may wait for the start of a worker, which takes long on a busy machine. One that
 * hangs has no end.
 */
const HANG_MS = 90_000;

/** Two workers start one after another. */
const SERVE_MAX_MS = 2 * HANG_MS;

const seed = Number(process.env.OTPD_TEST_SEED ?? Date.now() % 1_000_000);
let state = seed;

/** A whole number from 0 to `max` - 1 (a linear congruential generator). */
function random(max: number): number {
  state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
  return Math.floor(state / 65_536) % max;
}

test.after(endAll);

type Ending = 'answered' | 'closed' | 'refused';

/** Opens a connection and sends a request; rejects when nothing happens. */
function attempt(port: number): Promise<Ending> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, '127.0.0.1');
    const late = setTimeout(() => {
      socket.destroy();
      reject(new Error(`a connection hangs; OTPD_TEST_SEED=${seed}`));
    }, HANG_MS);
    const end = (ending: Ending): void => {
      clearTimeout(late);
      socket.destroy();
      resolve(ending);
    };
    socket.on('connect', () => socket.write('GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n'));
    socket.on('data', () => end('answered'));
    socket.on('close', () => end('closed'));
    socket.on('error', ({ code }: NodeJS.ErrnoException) =>
      end(code === 'ECONNREFUSED' ? 'refused' : 'closed'));
  });
}

function socketsOf(processId: number): number {
  const folder = `/proc/${processId}/fd`;
  return readdirSync(folder).filter((name) => {
    try {
      return readlinkSync(join(folder, name)).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;
}

function kill(processId: number): void {
  try {
    process.kill(processId, 'SIGKILL');
  } catch (error) {
    // The worker has ended by itself in the meantime.
    assert.is((error as NodeJS.ErrnoException).code, 'ESRCH');
  }
}

/** The workers at this moment; those that end while they are listed are left out. */
function workersOf(processId: number): number[] {
  try {
    return childrenOf(processId);
  } catch {
    return [];
  }
}

async function isReady(adminPort: number): Promise<boolean> {
  try {
    // A kept connection would count as a socket of the first process.
    const headers = { connection: 'close' };
    return (await fetch(`http://127.0.0.1:${adminPort}/readyz`, { headers })).status === 200;
  } catch {
    return false;
  }
}

test('a connection right after the death of a worker is answered by another one', async () => {
  const otpd = await startOtpd(await newVariables({ WORKERS: '2' }));
  try {
    // The first check of the readiness opens a connection to MySQL.
    await eventually('otpd is ready', () => isReady(otpd.adminPort));
    const sockets = socketsOf(otpd.processId);
    for (let death = 0; death < DEATHS_PER_START; death += 1) {
      kill(childrenOf(otpd.processId)[random(2)]!);
      const endings = await Promise.all(Array.from({ length: 10 }, () => attempt(otpd.port)));
      // A connection that the dying worker had accepted already is closed with it.
      assert.not.ok(endings.includes('refused'));
      await eventually('both workers serve', async () =>
        workersOf(otpd.processId).length === 2 && await isReady(otpd.adminPort), SERVE_MAX_MS);
    }
    // The socket of a check of the readiness may have been open still, but no more than that.
    await eventually('no socket is left in the first process', () =>
      socketsOf(otpd.processId) <= sockets);
  } finally {
    otpd.stop();
  }
  assert.is(await otpd.ended, 0);
});

test('workers killed at any moment of the start are replaced, and no connection hangs',
  async () => {
    const variables = await newVariables();
    for (let round = 0; round < STARTS; round += 1) {
      const [port, adminPort] = [await freePort(), await freePort()];
      const run = start(['serve'], { ...variables, WORKERS: '2', PORT: String(port),
        ADMIN_PORT: String(adminPort) });
      let deaths = 0;
      let wait = random(100);
      while (deaths < DEATHS_PER_START && run.child.exitCode === null) {
        await attempt(port);
        const workers = workersOf(run.child.pid!);
        wait -= 1;
        if (wait > 0 || workers.length === 0) continue;
        wait = random(150);
        const victims = random(4) === 0 ? workers : [workers[random(workers.length)]!];
        victims.forEach(kill);
        deaths += victims.length;
      }
      const starting = until(run, () => run.output().includes('sys_startup'));
      if (!await starting.then(() => true, () => false)) {
        assert.is(await finish(run), 1);
        assert.match(run.output(), /^otpd: .+$/m);
        continue;
      }
      await eventually(`both workers serve; OTPD_TEST_SEED=${seed}`, async () =>
        workersOf(run.child.pid!).length === 2 && await isReady(adminPort), SERVE_MAX_MS);
      assert.is(await attempt(port), 'answered');
      run.child.kill('SIGTERM');
      assert.is(await finish(run), 0, run.output());
    }
  });

test('a worker that dies while MySQL is away is replaced when MySQL is back', () =>
  withFolder(async (folder) => {
    // Workers that replace all others would find another port for 0.
    const PORT = String(await freePort());
    const variables = await newVariables({ WORKERS: '2', PORT });
    const socket = join(folder, 'mysql.sock');
    symlinkSync(variables.DB_SOCKET!, socket);
    const otpd = await startOtpd({ ...variables, DB_SOCKET: socket });
    try {
      rmSync(socket);
      const old = childrenOf(otpd.processId);
      old.forEach(kill);
      await eventually('both are replaced', () => {
        const workers = workersOf(otpd.processId);
        return workers.length === 2 && !workers.some((worker) => old.includes(worker));
      }, SERVE_MAX_MS);
      const waiting = workersOf(otpd.processId);
      const begun = performance.now();
      await eventually('they had time for attempts', () => performance.now() - begun > 5000);
      assert.equal(workersOf(otpd.processId), waiting);
      symlinkSync(variables.DB_SOCKET!, socket);
      await eventually('both workers serve', () => isReady(otpd.adminPort), SERVE_MAX_MS);
      assert.equal(workersOf(otpd.processId), waiting);
    } finally {
      otpd.stop();
    }
    assert.is(await otpd.ended, 0);
  }));

test('an otpd that can start no worker any more ends with 1 and the reason', async () => {
  const variables = await newVariables({ WORKERS: '2' });
  await withFolder(async (folder) => {
    const node = join(folder, 'node');
    copyFileSync(process.execPath, node);
    // The copy takes the place of the program that startOtpd names.
    const otpd = await startOtpd(variables, { under: ['sh', '-c', 'shift; exec "$0" "$@"', node] });
    rmSync(node);
    kill(childrenOf(otpd.processId)[0]!);
    const code = await promptly(() => otpd.ended, HANG_MS).finally(() => otpd.signal('SIGKILL'));
    assert.is(code, 1);
    assert.match(otpd.output(), /^otpd: more than 10 workers ended .*ENOENT$/m);
  });
});

test.run();
