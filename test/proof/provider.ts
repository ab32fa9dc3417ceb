/** A provider of the channel webhook that keeps account of every call, and of what it said. */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { answer, startHttpSink } from '../harness/http-sink.ts';
import type { Behaviour, HttpSink } from '../harness/http-sink.ts';
import { recordCode } from '../harness/leak-recorder.ts';

/** One call of otpd. */
export class ProviderCall {
  /** Which process called: the path of its WEBHOOK_URL. */
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

  /** Whether the head of an answer was written. */
  get isAnswered(): boolean {
    return this.#response.headersSent;
  }

  /** Whether nothing more can become of it: it was answered, or broken off. */
  get isOver(): boolean {
    return this.isAnswered || this.#response.destroyed;
  }

  /** Whether the answer was a success. */
  get isAccepted(): boolean {
    return this.isAnswered && Math.floor(this.#response.statusCode / 100) === 2;
  }
}

/** What becomes of a call. */
export type Responder = (call: ProviderCall) => Behaviour;

/** A running provider. */
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

  /** Starts one that accepts everything. */
  static async start(): Promise<Provider> {
    return new Provider(await startHttpSink());
  }

  /** The WEBHOOK_URL of a process. */
  urlFor(sender: string): string {
    return `${this.#sink.url}${sender}`;
  }

  /** Says what becomes of calls from now on. */
  behave(responder: Responder): void {
    this.#responder = responder;
  }

  /** Does something as calls come, and as they are accepted at once. */
  watch(onCall: (call: ProviderCall) => void, onAccepted: (call: ProviderCall) => void): void {
    this.#onCall = onCall;
    this.#onAnswer = onAccepted;
  }

  /** The calls that were accepted, in order of their coming. */
  get accepted(): ProviderCall[] {
    return this.calls.filter(({ isAccepted }) => isAccepted);
  }

  /** The calls of a code. */
  callsOf(otpId: unknown): ProviderCall[] {
    return this.calls.filter((call) => call.otpId === otpId);
  }

  /** Closes all connections, under way or not. */
  cutAll(): void {
    this.#sink.cutAll();
  }

  /** Ends it. */
  close(): Promise<void> {
    return this.#sink.close();
  }
}

/** Calls by the code that they carry. */
export function groupByOtp(calls: readonly ProviderCall[]): Map<string, ProviderCall[]> {
  const groups = new Map<string, ProviderCall[]>();
  for (const call of calls) {
    const group = groups.get(call.otpId);
    if (group === undefined) groups.set(call.otpId, [call]);
    else group.push(call);
  }
  return groups;
}
