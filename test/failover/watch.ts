/** Asks the servers and /readyz of each otpd side by side, a few times a second. */
import { setTimeout as delay } from 'node:timers/promises';
import { promptly } from '../harness/waiting.ts';
import { send } from '../harness/client.ts';
import type { Node } from './node.ts';
import type { Observations } from './observations.ts';
import { isReady, judge } from './readiness.ts';
import type { Probe, VerdictAt } from './readiness.ts';

const EVERY_MS = 150;

/** /readyz answers within a second (docs/metrics.md). */
const PROBE_TIMEOUT_MS = 3000;

export class Watch {
  readonly verdicts: VerdictAt[] = [];
  /** For each otpd. */
  readonly probes: Probe[][];
  readonly #loops: Promise<void>[];
  #isOver = false;

  constructor(
    nodes: readonly Node[],
    adminPorts: readonly number[],
    observations: Observations,
  ) {
    this.probes = adminPorts.map(() => []);
    const look = async (): Promise<void> => {
      // The facts hold for the moment at which the servers answer, not later.
      const all = await Promise.all(nodes.map((node) => node.look()));
      const primary = all.findIndex(isReady);
      this.verdicts.push({
        atMs: observations.now(), verdict: judge(all, observations.sinceWriteMs),
        primary: primary === -1 ? null : primary,
      });
    };
    this.#loops = [look, ...adminPorts.map((port, index) => async () => {
      const probe = await ask(port);
      this.probes[index]!.push({ atMs: observations.now(), ...probe });
    })].map((step) => this.#repeat(step));
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#loops);
  }

  async #repeat(step: () => Promise<void>): Promise<void> {
    while (!this.#isOver) {
      await step();
      await delay(EVERY_MS);
    }
  }
}

async function ask(port: number): Promise<Omit<Probe, 'atMs'>> {
  try {
    const { status, body } = await promptly(() =>
      send({ port, path: '/readyz', method: 'GET' }), PROBE_TIMEOUT_MS);
    return { isReady: status === 200, failed: (body.failed as string[] | undefined) ?? [] };
  } catch {
    return { isReady: false, failed: null };
  }
}
