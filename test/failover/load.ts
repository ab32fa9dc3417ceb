/** The load: flows at a steady rate, each by a client that repeats what has failed. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { newClientIp, newUser, otpRequest, verifyRequest } from '../../bench/requests.ts';
import type { Provider } from '../proof/provider.ts';
import { Wire } from '../soak/wire.ts';
import { FlowModel, STEPS } from './flow-model.ts';
import type { Step } from './flow-model.ts';
import type { Observations } from './observations.ts';

const FLOWS_PER_SECOND = 10;

/** Pause of a client before it repeats a request, to another otpd. */
const RETRY_MS = 250;

/** A service that is down for long must not be asked by ever more clients. */
const FLOWS_MAX = 150;

/** A lease lasts 20 s; what another process takes over comes after it. */
const MESSAGE_MAX_MS = 40_000;
const MESSAGE_POLL_MS = 20;

/** How long the flows that have begun may go on. */
const DRAIN_MAX_MS = 60_000;

/** The codes of users whose flow waits for one. */
export type Codes = Map<string, string>;

/** Records what the provider receives: the codes for the flows, the times for the report. */
export function receiveMessages(
  provider: Provider,
  codes: Codes,
  observations: () => Observations | null,
): void {
  provider.watch(({ otpId, userId, code }) => {
    codes.set(userId, code);
    observations()?.addMessage(otpId);
  }, () => {});
}

export class Load {
  readonly #ports: readonly number[];
  readonly #codes: Codes;
  readonly #observations: Observations;
  readonly #flows = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  /** Aborted when the flows must not go on. */
  readonly #closed = new AbortController();

  constructor(ports: readonly number[], codes: Codes, observations: Observations) {
    this.#ports = ports;
    this.#codes = codes;
    this.#observations = observations;
    this.#timer = setInterval(() => this.#begin(), 1000 / FLOWS_PER_SECOND);
  }

  /** Begins no further flow and waits, with a bound, for the end of the others. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    const bound = setTimeout(() => this.#closed.abort(), DRAIN_MAX_MS);
    await Promise.all(this.#flows);
    clearTimeout(bound);
  }

  /** Ends all flows at once. */
  async abort(): Promise<void> {
    this.#closed.abort();
    await this.end();
  }

  #begin(): void {
    if (this.#flows.size >= FLOWS_MAX) return;
    const flow = this.#run(this.#observations.flows);
    this.#observations.flows += 1;
    this.#flows.add(flow);
    void flow.finally(() => this.#flows.delete(flow));
  }

  async #run(number: number): Promise<void> {
    const model = new FlowModel();
    const wires = this.#ports.map((port) => new Wire(port));
    const user = newUser();
    const request = otpRequest(user, newClientIp());
    let attempt = number;
    try {
      for (const step of STEPS) {
        const bytes = await this.#bytesOf(step, user, request, model.otpId);
        if (bytes === null) return;
        for (;;) {
          if (this.#closed.signal.aborted) return;
          const verdict = await this.#send(wires[attempt % wires.length]!, bytes, step, model);
          attempt += 1;
          if (verdict === 'end') return;
          if (verdict === 'next') break;
          await delay(RETRY_MS);
        }
      }
    } finally {
      for (const wire of wires) wire.close();
      this.#codes.delete(user);
      for (const text of model.wrong) this.#observations.addWrong(text);
      this.#observations.redeemedTwice += model.redeemedTwice;
    }
  }

  async #send(wire: Wire, bytes: string, step: Step, model: FlowModel) {
    const observations = this.#observations;
    const wrongBefore = model.wrong.length;
    const answer = await wire.send(bytes);
    const verdict = model.judge(step, answer);
    if (answer === null || answer.status === 503) observations.addFailed(answer?.ms ?? null);
    else if (model.wrong.length === wrongBefore) {
      observations.addGood(answer.ms, ['request', 'wrong', 'right'].includes(step));
    }
    if (step === 'request' && model.otpId !== null) {
      observations.issued.set(model.otpId, observations.now());
    }
    if (step === 'right' && model.isRedeemed) observations.redeemed.push(model.otpId!);
    return verdict;
  }

  /** The request of a step; null when its code does not arrive. */
  async #bytesOf(
    step: Step,
    userId: string,
    request: string,
    otpId: string | null,
  ): Promise<string | null> {
    if (step === 'request' || step === 'replay') return request;
    if (step === 'status') return `GET /otp/${otpId} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
    const right = await this.#codeOf(userId);
    if (right === null) return null;
    const code = step === 'wrong'
      ? String((Number(right) + 1) % 1_000_000).padStart(6, '0') : right;
    return verifyRequest({ userId, code }, randomBytes(16).toString('hex'));
  }

  async #codeOf(userId: string): Promise<string | null> {
    for (let waited = 0; waited < MESSAGE_MAX_MS; waited += MESSAGE_POLL_MS) {
      const code = this.#codes.get(userId);
      if (code !== undefined || this.#closed.signal.aborted) return code ?? null;
      await delay(MESSAGE_POLL_MS);
    }
    return null;
  }
}
