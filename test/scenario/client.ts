/** The clients of a scenario: their requests, keys and codes. */
import { send } from '../harness/client.ts';
import type { Call, Reply } from '../harness/client.ts';
import type { Got } from './compare.ts';
import { isFixtureAction } from './scenario.ts';
import type {
  ClientAction, FixtureAction, NamedOtp, NamedToken, Step, TypedCode,
} from './scenario.ts';
import type { Fixture } from './fixture.ts';

/** The only status that announces a message. */
const ISSUED_STATUS = 201;

type Verify = Extract<ClientAction, { kind: 'verify' }>;

/** Sends the requests of one scenario and remembers named answers and codes. */
export class Client {
  readonly replies: Map<string, Reply> = new Map();
  readonly #fixture: Fixture;
  readonly #codes: Map<string, string> = new Map();
  #freshKeys = 0;
  #wrongCodes = 0;

  constructor(fixture: Fixture) {
    this.#fixture = fixture;
  }

  /** Composes the request of a line and returns a function that sends it and never rejects. */
  prepare(step: Step): () => Promise<Got> {
    const { action, process } = step;
    if (isFixtureAction(action)) return async () => toText(await this.#direct(action));
    if (action.kind === 'verify' && this.#codeFor(action) === null) {
      return async () => toText('not sent: no message carried the code that is named');
    }
    const named = 'otp' in action ? action.otp : action.kind === 'verify' ? action.otpId : null;
    if (named !== null && this.#idOf(named) === null) {
      return async () => toText('not sent: no answer announced the code that is named');
    }
    if ('devices' in action && action.devices.some((one) => this.#tokenOf(one) === null)) {
      return async () => toText('not sent: no answer carried the token that is named');
    }
    const call = this.#authorize(this.#compose(action, this.#fixture.portOf(process)), step);
    return () => send(call).then((reply) => ({ kind: 'reply', reply }), toFailure);
  }

  /** Stores an answer, and the code of the message it announced, under the name of its line. */
  async name({ capture, action }: Step, got: Got): Promise<void> {
    if (capture === null || got.kind === 'text') return;
    this.replies.set(capture, got.reply);
    if (got.reply.status !== ISSUED_STATUS) return;
    const fixed = action.kind === 'request'
      ? this.#fixture.fixedCodeOf(action.userId, action.purpose) : null;
    const code = fixed ?? (await this.#fixture.messageOf(got.reply.body.otp_id))?.code;
    if (code !== undefined) this.#codes.set(capture, code);
  }

  /** Runs an event that sends no request. */
  async #direct(action: FixtureAction): Promise<string> {
    const fixture = this.#fixture;
    switch (action.kind) {
      case 'messages': return String(fixture.messages().length);
      case 'unlock':
        return await fixture.unlock(action.userId, action.purpose) ? 'done' : 'unknown';
      case 'revoke': return this.#revoke(action);
      case 'channel':
        await fixture.setSendResult(action.sendResult);
        return 'done';
      case 'settle': {
        const pending = await fixture.settle();
        return pending === 0 ? 'done' : `${pending} still on their way`;
      }
    }
  }

  async #revoke({ userId, device }: Extract<FixtureAction, { kind: 'revoke' }>): Promise<string> {
    const token = device === null ? null : this.#tokenOf({ kind: 'captured', name: device });
    if (device !== null && token === null) return 'no answer carried the token that is named';
    await this.#fixture.revoke(userId, token);
    return 'done';
  }

  #compose(action: ClientAction, port: number): Call {
    const { address } = action;
    const key = this.#keyOf(action);
    if (action.kind === 'post') {
      const { body, path, type } = action;
      return { port, path, body, address, key, headers: { 'Content-Type': type } };
    }
    if ('otp' in action) {
      const method = action.kind === 'status' ? 'GET' : 'DELETE';
      return { port, method, path: `/otp/${this.#idOf(action.otp)}`, address, key };
    }
    const names = { user_id: action.userId, purpose: action.purpose };
    const tokens = action.devices.map((one) => this.#tokenOf(one));
    const headers: Record<string, string>
      = tokens.length === 0 ? {} : { 'Otp-Device': tokens.join(', ') };
    if (action.kind === 'request') {
      const body = { ...names, ...action.options };
      return { port, path: '/otp/request', body, address, key, headers };
    }
    const code = this.#codeFor(action);
    const body = { ...names, code,
      ...(action.otpId === null ? {} : { otp_id: this.#idOf(action.otpId) }) };
    return { port, path: '/otp/verify', body, address, key, headers };
  }

  /** An API client sends its key, and the address of its user in X-Client-IP. */
  #authorize({ address, ...call }: Call, { apiClient, namesAddress }: Step): Call {
    if (apiClient === null) return { ...call, address };
    const named = namesAddress && address !== undefined ? { 'X-Client-IP': address } : {};
    const own = this.#fixture.headersOf(apiClient);
    return { ...call, headers: { ...call.headers, ...own, ...named } };
  }

  #keyOf({ key }: ClientAction): string | undefined {
    if (key.kind === 'none') return undefined;
    if (key.kind === 'wire') return key.text;
    this.#freshKeys += 1;
    return `never-used-before-${this.#freshKeys}`;
  }

  /** Null when the answer of the named line announced no code. */
  #idOf(otp: NamedOtp): string | null {
    if (otp.kind === 'literal') return otp.text;
    const id = this.replies.get(otp.name)?.body.otp_id;
    return typeof id === 'string' ? id : null;
  }

  /** Null when the answer of the named line carried no token. */
  #tokenOf(token: NamedToken): string | null {
    if (token.kind === 'literal') return token.text;
    return this.replies.get(token.name)?.headers['otp-device']?.toString() ?? null;
  }

  /** Null when the named line received no code. */
  #codeFor({ code, userId, purpose }: Verify): string | null {
    const typed: TypedCode = code;
    if (typed.kind === 'literal') return typed.text;
    if (typed.kind === 'captured') return this.#codes.get(typed.name) ?? null;
    return this.#wrongCode(userId, purpose);
  }

  /** A new code of the right length that was never sent to the pair. */
  #wrongCode(userId: string, purpose: string): string {
    const digits = this.#fixture.policies.for(purpose).codeDigits;
    const sent = new Set(this.#fixture.messages()
      .filter((message) => message.userId === userId && message.purpose === purpose)
      .map(({ code }) => code));
    sent.add(this.#fixture.fixedCodeOf(userId, purpose) ?? '');
    // One more candidate than sent codes: at least one of them was not sent.
    const candidates = Array.from({ length: sent.size + 1 }, () => {
      this.#wrongCodes += 1;
      return String(this.#wrongCodes % 10 ** digits).padStart(digits, '0');
    });
    return candidates.find((code) => !sent.has(code))!;
  }
}

function toText(text: string): Got {
  return { kind: 'text', text };
}

function toFailure(error: NodeJS.ErrnoException): Got {
  return toText(`no answer (${error.code ?? error.name})`);
}
