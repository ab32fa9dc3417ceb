/** Two otpd processes on the hosts of the group, and what the group has stored of their answers. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { FROM_SOURCE, ROOT, SHELL } from '../harness/program.ts';
import type { Provider } from '../proof/provider.ts';
import { ACCOUNT } from './group.ts';
import type { Group } from './group.ts';
import type { Observations } from './observations.ts';

const PROCESSES = 2;
const STOP_MAX_MS = 15_000;
const MIGRATE_TIMEOUT_MS = 120_000;

/** A member applies within this time what the primary has committed. */
const CATCH_UP_SECONDS = 60;

export type Service = Readonly<{
  ports: readonly number[];
  adminPorts: readonly number[];
  /** Ends both by SIGTERM, after 15 s by SIGKILL. */
  stop: () => Promise<void>;
}>;

/** Variables with which an otpd finds a database of the group. */
export function databaseOf(nodes: Group['nodes'], name: string): Readonly<Record<string, string>> {
  return {
    DB_HOST: nodes.map(({ host }) => host).join(), DB_SOCKET: '', DB_NAME: name,
    DB_USER: ACCOUNT.user, DB_PASSWORD: ACCOUNT.password, DB_TLS: '', DB_TLS_CA: '',
  };
}

/** Creates the schema and starts the processes; none is left when that fails. */
export async function startService(
  { nodes }: Group,
  provider: Provider,
  more: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Service> {
  const environment = {
    ...databaseOf(nodes, ACCOUNT.name),
    HOST: '127.0.0.1', TRUSTED_PROXIES: '127.0.0.0/8', POLICY_FILE: '', LOG_LEVEL: 'warn',
    OTP_SECRETS: `run:${randomBytes(32).toString('base64')}`, DELIVERY: 'webhook',
    WEBHOOK_SECRETS: provider.secrets, ...more,
  };
  await promisify(execFile)(process.execPath, [...FROM_SOURCE, 'migrate'], {
    cwd: ROOT, env: { ...SHELL, PORT: '0', ...environment }, timeout: MIGRATE_TIMEOUT_MS, signal,
  });
  const running: Otpd[] = [];
  const stop = async (): Promise<void> => {
    for (const otpd of running) otpd.stop();
    const late = setTimeout(() => running.forEach((otpd) => otpd.signal('SIGKILL')), STOP_MAX_MS);
    await Promise.all(running.map(({ ended }) => ended));
    clearTimeout(late);
  };
  try {
    for (let number = 1; number <= PROCESSES; number += 1) {
      signal.throwIfAborted();
      running.push(await startOtpd(
        { ...environment, WEBHOOK_URL: provider.urlFor(`/${number}`) }, { main: FROM_SOURCE }));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ports: running.map(({ port }) => port),
    adminPorts: running.map(({ adminPort }) => adminPort),
    stop,
  };
}

/** Counts what was acknowledged and is not stored on every member, once all have caught up. */
export async function countLost(
  group: Group,
  { issued, redeemed }: Observations,
): Promise<number> {
  const [head] = await (await group.primary()).query('SELECT @@GLOBAL.gtid_executed AS held');
  const lost = new Set<string>();
  for (const node of group.nodes) {
    const [row] = await node.query(
      `SELECT WAIT_FOR_EXECUTED_GTID_SET('${head?.held}', ${CATCH_UP_SECONDS}) AS isLate`,
      (CATCH_UP_SECONDS + 5) * 1000);
    if (Number(row?.isLate) !== 0) throw new Error(`${node.host} does not catch up`);
    const rows = await node.query(`SELECT LOWER(HEX(otp_id)) AS id,
      redeemed_at IS NOT NULL AS redeemed FROM ${ACCOUNT.name}.otps`);
    const stored = new Map(rows.map(({ id, redeemed: is }) => [String(id), Number(is) === 1]));
    for (const id of issued.keys()) if (!stored.has(id)) lost.add(id);
    for (const id of redeemed) if (stored.get(id) !== true) lost.add(id);
  }
  return lost.size;
}

/** Waits until every otpd is ready, or the bound is over. */
export async function untilReady(isReady: () => Promise<boolean>, boundMs: number): Promise<void> {
  const deadline = AbortSignal.timeout(boundMs);
  while (!deadline.aborted && !(await isReady())) await delay(200);
}
