/**
 * What a scenario is once it is read: moments in time, the events of each moment, and the answers
 * that are expected. parse-scenario.ts makes it, run.ts runs it.
 */
import type { ChannelState } from '../harness/service.ts';

/** A JSON value of a flat body, or `ANY`. */
export type ExpectedValue = string | number | boolean | null | typeof ANY;

/** Written `*`: the member or header must be there, with any value. */
export const ANY = Symbol('any value');

/** A header that must be there with this value, or (null) must not be there. */
export type ExpectedHeader = Readonly<{ name: string; value: string | typeof ANY | null }>;

/** What one answer must be. */
export type Expected = Readonly<{
  /** As it is written in the file. */
  text: string;
  answer:
    | Readonly<{ kind: 'body'; status: number; members: ReadonlyMap<string, ExpectedValue> }>
    | Readonly<{ kind: 'same'; capture: string }>
    | Readonly<{ kind: 'text'; text: string }>;
  headers: readonly ExpectedHeader[];
}>;

/** The Idempotency-Key as it goes over the wire; `fresh`: one that was never used; or none. */
export type Key = Readonly<{ kind: 'fresh' } | { kind: 'none' } | { kind: 'wire'; text: string }>;

/** What is typed in as the code. */
export type TypedCode = Readonly<
  { kind: 'wrong' } | { kind: 'captured'; name: string } | { kind: 'literal'; text: string }
>;

/** Which code: the one that an answer announced, or an id. */
export type NamedOtp = Readonly<
  { kind: 'captured'; name: string } | { kind: 'literal'; text: string }
>;

/** What a client asks of the service. */
export type ClientAction =
  | Readonly<{ kind: 'request'; userId: string; purpose: string; address: string; key: Key }>
  | Readonly<{
      kind: 'verify';
      userId: string;
      purpose: string;
      address: string;
      code: TypedCode;
      key: Key;
    }>
  | Readonly<{
      kind: 'post';
      address: string;
      path: string;
      body: string;
      /** The Content-Type. */
      type: string;
      key: Key;
    }>
  | Readonly<{ kind: 'status' | 'cancel'; address: string; otp: NamedOtp; key: Key }>;

/**
 * What happens beside the calls: an operator's unlock, a look at the sent messages, what the
 * channel says to messages from now on, or a wait until none is on its way.
 */
export type FixtureAction =
  | Readonly<{ kind: 'unlock'; userId: string; purpose: string }>
  | Readonly<{ kind: 'messages' }>
  | Readonly<{ kind: 'channel'; sendResult: ChannelState['sendResult'] }>
  | Readonly<{ kind: 'settle' }>;

/** What happens. */
export type Action = ClientAction | FixtureAction;

/** Whether the fixture does it; else a client sends a call. */
export function isFixtureAction(action: Action): action is FixtureAction {
  return ['unlock', 'messages', 'channel', 'settle'].includes(action.kind);
}

/** One line of the file. */
export type Step = Readonly<{
  line: number;
  /** The time as it is written; `and` for one that is simultaneous with the line before. */
  time: string;
  /** The event as it is written. */
  text: string;
  action: Action;
  times: number;
  /** From 1; null: the processes take turns. */
  process: number | null;
  /** Whose key it is sent with; null: without one. */
  apiClient: string | null;
  /** False when a apiClient names no client address. */
  namesAddress: boolean;
  /** The name that the answer, and the code that it announced, get. */
  capture: string | null;
  expectedText: string;
  /** One for each of the times. */
  expected: readonly Expected[];
}>;

/** Lines that happen at once, at a UTC time such as `2026-01-05 08:00:00.000001`. */
export type Moment = Readonly<{ at: string; steps: readonly Step[] }>;

/** A file, read. */
export type Scenario = Readonly<{
  file: string;
  /** The text of a policy file (src/otp/policy/policy-file.ts). */
  policy: string;
  processes: number;
  /** Those who have keys; none: the endpoints are public. */
  apiClients: readonly string[];
  moments: readonly Moment[];
}>;

/** What is wrong with a file, each with its place, `file:line: …`. */
export class ScenarioError extends Error {
  override name = 'ScenarioError';
}

/** What is wrong with one line; the parser adds the place. */
export class LineError extends Error {
  override name = 'LineError';
}
