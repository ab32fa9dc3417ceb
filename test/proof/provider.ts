/** A provider for the channel webhook that records every call and its response. */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { answer, startHttpSink } from '../harness/http-sink.ts';
import type { Behaviour, HttpSink } from '../harness/http-sink.ts';
import { recordCode } from '../harness/leak-recorder.ts';

export class ProviderCall {
  /** The path of WEBHOOK_URL, which identifies the process. */
  readonly sender: string;
  readonly webhookId: string;
  readonly otpId: string;
  readonly userId: string;
  readonly code: string;
  readonly #response: ServerResponse;

  constructor(sender: string, webhookId: string, body: string, response: ServerResponse) {
    const { data } = JSON.parse(body) as { data: Record<string, string> };
    this.sender = sender;
    this.webhookId = webhookId;
    this.otpId = data.otp_id!;
    this.userId = data.user_id!;
    this.code = data.code!;
    this.#response = response;
  }

  /** True once the head of the response is written. */
  get isAnswered(): boolean {
    return this.#response.headersSent;
  }

  /** True once the call has been answered or aborted. */
  get isOver(): boolean {
    return this.isAnswered || this.#response.destroyed;
  }

  /** True if the response is a success. */
  get isAccepted(): boolean {
    return this.isAnswered && Math.floor(this.#response.statusCode / 100) === 2;
  }
}

/** Chooses the response to a call. */
export type Responder = (call: ProviderCall) => Behaviour;

export class Provider {
  readonly secrets = `whsec_${randomBytes(32).toString('base64')}`;
  readonly calls: ProviderCall[] = [];
  readonly #sink: HttpSink;
  #responder: Responder = () => answer(204);
  #onCall: (call: ProviderCall) => void = () => {};
  #onAnswer: (call: ProviderCall) => void = () => {};

  private constructor(sink: HttpSink) {
    this.#sink = sink;
    sink.behave((response, received) => {
      const { headers, body, path } = received;
      const call = new ProviderCall(path, String(headers['webhook-id']), body, response);
      recordCode(call.code);
      this.calls.push(call);
      this.#onCall(call);
      this.#responder(call)(response, received);
      if (call.isAccepted) this.#onAnswer(call);
    });
  }

  /** Starts a provider that accepts every call. */
  static async start(): Promise<Provider> {
    return new Provider(await startHttpSink());
  }

  /** The WEBHOOK_URL of a process. */
  urlFor(sender: string): string {
    return `${this.#sink.url}${sender}`;
  }

  /** Sets the response to later calls. */
  behave(responder: Responder): void {
    this.#responder = responder;
  }

  /** Sets callbacks for each call, and for each call that is accepted at once. */
  watch(onCall: (call: ProviderCall) => void, onAccepted: (call: ProviderCall) => void): void {
    this.#onCall = onCall;
    this.#onAnswer = onAccepted;
  }

  /** The accepted calls in order of arrival. */
  get accepted(): ProviderCall[] {
    return this.calls.filter(({ isAccepted }) => isAccepted);
  }

  callsOf(otpId: unknown): ProviderCall[] {
    return this.calls.filter((call) => call.otpId === otpId);
  }

  /** Closes all connections, also in the middle of a call. */
  cutAll(): void {
    this.#sink.cutAll();
  }

  close(): Promise<void> {
    return this.#sink.close();
  }
}

/** Groups calls by otp_id. */
export function groupByOtp(calls: readonly ProviderCall[]): Map<string, ProviderCall[]> {
  const groups = new Map<string, ProviderCall[]>();
  for (const call of calls) {
    const group = groups.get(call.otpId);
    if (group === undefined) groups.set(call.otpId, [call]);
    else group.push(call);
  }
  return groups;
}
