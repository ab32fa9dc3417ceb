/** Requests beside a provider of messages that is slow, and beside a fast one, by turns. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { openConnection } from '../src/db/connection.ts';
import type { Lab } from './lab.ts';
import type { Plan } from './options.ts';
import { freshRequests } from './requests.ts';
import type { Sample } from './rounds.ts';
import { median } from './summary.ts';
import type { Target } from './target.ts';

/** The samples, and the p99 beside the slow provider over that beside the fast one. */
export type DeliveryResult = Readonly<{ samples: readonly Sample[]; slowShare: number | null }>;

/** How long the provider takes for each message. */
const FAST_MS = 1;
const SLOW_MS = 5000;

/**
 * So that neither the load nor the messages take the whole machine: what is compared is the
 * provider's time, not its share of the CPU.
 */
const CONNECTIONS = 1;

const RATE_MAX = 4000;
const WARM_SECONDS = 3;
const DRAIN_POLL_MS = 50;
const DRAIN_MAX_MS = 120_000;

/** A provider that takes its time, in this process, which has nothing else to do meanwhile. */
class SlowProvider {
  delayMs = FAST_MS;
  readonly #server: Server = createServer((request, response) => {
    request.resume().on('end', () => {
      setTimeout(() => response.writeHead(204).end(), this.delayMs);
    });
  });

  async listen(): Promise<string> {
    this.#server.keepAliveTimeout = 0;
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Measures requests; between rounds all messages are sent, so that each begins with none. */
export async function measureDelivery(
  lab: Lab,
  plan: Plan,
  say: (line: string) => void,
): Promise<DeliveryResult> {
  const provider = new SlowProvider();
  try {
    const environment = {
      DELIVERY: 'webhook',
      WEBHOOK_URL: await provider.listen(),
      WEBHOOK_SECRETS: `whsec_${randomBytes(32).toString('base64')}`,
    };
    const target = await lab.target('otpd', { label: 'otpd_delivery', environment });
    return await takeTurns(lab, plan, target, provider, say);
  } finally {
    provider.close();
  }
}

async function takeTurns(
  lab: Lab,
  plan: Plan,
  target: Target,
  provider: SlowProvider,
  say: (line: string) => void,
): Promise<DeliveryResult> {
  const order = (seconds: number) => ({
    target, connections: CONNECTIONS, seconds,
    requests: freshRequests(seconds, RATE_MAX),
  });
  // The connections to a slow provider are opened now: as many as it may be asked at a time.
  provider.delayMs = SLOW_MS;
  await lab.send(order(WARM_SECONDS));
  const samples: Sample[] = [];
  const ratios: number[] = [];
  for (let round = 1; round <= plan.rounds; round += 1) {
    const p99: number[] = [];
    for (const delayMs of [FAST_MS, SLOW_MS]) {
      await drain(target, provider);
      provider.delayMs = delayMs;
      const measured = await lab.measure(order(plan.seconds));
      const workload = `issue, provider ${delayMs} ms`;
      samples.push({ workload, target: 'otpd', connections: CONNECTIONS, round, ...measured });
      const { perSecond, p50Us, p99Us } = measured;
      const [p50Ms, p99Ms] = [p50Us, p99Us].map((us) => (us / 1000).toFixed(1));
      say(`${workload} #${round}: ${perSecond.toFixed(0)}/s, p50 ${p50Ms} ms, p99 ${p99Ms} ms`);
      p99.push(p99Us);
    }
    ratios.push(p99[1]! / p99[0]!);
    say(`p99 with the slow provider over that with the fast one: ${ratios.at(-1)!.toFixed(2)}`);
  }
  await drain(target, provider);
  return { samples, slowShare: median(ratios) };
}

/** Lets the provider be fast until nothing is left to send. */
async function drain({ settings }: Target, provider: SlowProvider): Promise<void> {
  provider.delayMs = FAST_MS;
  const deadline = AbortSignal.timeout(DRAIN_MAX_MS);
  const session = await openConnection(settings);
  try {
    for (;;) {
      const [row] = await session.run('count', 'SELECT COUNT(*) AS n FROM outbox', []);
      if (row?.n === 0) return;
      await session.run('end', 'ROLLBACK', []);
      deadline.throwIfAborted();
      await delay(DRAIN_POLL_MS);
    }
  } finally {
    session.destroy();
  }
}
