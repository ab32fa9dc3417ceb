/** One event after another, each in a fresh stretch of load. */
import { setTimeout as delay } from 'node:timers/promises';
import { send } from '../harness/client.ts';
import type { Provider } from '../proof/provider.ts';
import { EVENTS } from './events.ts';
import type { Group } from './group.ts';
import { Load, receiveMessages } from './load.ts';
import type { Codes } from './load.ts';
import type { Network } from './network.ts';
import { Observations } from './observations.ts';
import type { EventName } from './options.ts';
import { describeProbes, describeVerdicts, measureDelays } from './readiness.ts';
import type { Outcome } from './report.ts';
import { countLost, untilReady } from './service.ts';
import type { Service } from './service.ts';
import { Watch } from './watch.ts';

/** Load before the event, so that the chart shows what is usual. */
const CALM_MS = 5000;

/** Load after the event at least. */
const AFTER_MS = 5000;

/** After an event otpd may need a moment until it is ready for the next one. */
const READY_MAX_MS = 30_000;

type FailoverDeps = Readonly<{
  /** How long the load of one event lasts. */
  seconds: number;
  network: Network;
  group: Group;
  service: Service;
  provider: Provider;
  signal: AbortSignal;
}>;

export class Failover {
  readonly #deps: FailoverDeps;
  readonly #codes: Codes = new Map();
  #observations: Observations | null = null;

  constructor(deps: FailoverDeps) {
    this.#deps = deps;
    receiveMessages(deps.provider, this.#codes, () => this.#observations);
  }

  /** Runs one event under load, and restores the group. */
  async observe(name: EventName): Promise<Outcome> {
    const { group, network, signal, service, seconds } = this.#deps;
    await group.rejoin();
    const primary = await group.primary();
    await untilReady(() => this.#isReady(), READY_MAX_MS);
    const observations = new Observations();
    this.#observations = observations;
    const load = new Load(service.ports, this.#codes, observations);
    const watch = new Watch(group.nodes, service.adminPorts, observations);
    try {
      await delay(CALM_MS, undefined, { signal });
      const eventMs = observations.now();
      const secondaries = group.nodes.filter((node) => node !== primary);
      await EVENTS[name].run({ group, network, primary, secondaries, signal });
      const restMs = seconds * 1000 - observations.now();
      await delay(Math.max(AFTER_MS, restMs), undefined, { signal });
      const endMs = observations.now();
      await load.end();
      await watch.end();
      await group.rejoin();
      const lost = await countLost(group, observations);
      return summarise(name, observations, watch, {
        eventMs, endMs, lost, primary: primary.options.index,
      });
    } finally {
      await load.abort();
      await watch.end();
    }
  }

  async #isReady(): Promise<boolean> {
    const answers = await Promise.all(this.#deps.service.adminPorts.map((port) =>
      send({ port, path: '/readyz', method: 'GET' }).catch(() => null)));
    return answers.every((answer) => answer?.status === 200);
  }
}

function summarise(
  name: EventName,
  observations: Observations,
  watch: Watch,
  known: Readonly<{ eventMs: number; endMs: number; lost: number; primary: number }>,
): Outcome {
  const { eventMs, endMs, lost, primary } = known;
  const { failed, slowestMs, wrong, wrongCount, redeemedTwice, sentTwice, seconds } = observations;
  const gap = observations.longestGap(endMs);
  const moved = watch.verdicts.find(({ atMs, primary: found }) =>
    atMs > eventMs && found !== null && found !== primary);
  const delays = watch.probes.map((probes) => measureDelays(watch.verdicts, probes));
  const after = watch.probes.flat().filter(({ atMs }) => atMs > eventMs);
  return {
    name, eventMs, lost, failed, slowestMs, wrong, wrongCount, redeemedTwice, sentTwice, seconds,
    newPrimaryMs: moved?.atMs ?? null,
    gapMs: gap.toMs - gap.fromMs,
    issued: observations.issued.size,
    redeemed: observations.redeemed.length,
    messageMs: observations.slowestMessageMs(gap),
    delays: {
      to503Ms: Math.max(...delays.map(({ to503Ms }) => to503Ms)),
      to200Ms: Math.max(...delays.map(({ to200Ms }) => to200Ms)),
    },
    servers: describeVerdicts(watch.verdicts, eventMs),
    probes: watch.probes.map((probes) => describeProbes(probes, eventMs)),
    named: [...new Set(after.flatMap((probe) => probe.failed ?? []))],
  };
}
