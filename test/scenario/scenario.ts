/** A parsed scenario: moments in time, the events of each moment, and their expected answers. */
import type { ChannelState } from '../harness/service.ts';

/** A JSON value of a flat body, or `ANY`. */
export type ExpectedValue = string | number | boolean | null | typeof ANY;

/** Written `*`: the member or header must exist, with any value. */
export const ANY = Symbol('any value');

/** The value that the header has in the answer of an earlier line. */
export type ValueOfCapture = Readonly<{ capture: string }>;

/** A header that must have this value, or (null) must not exist. */
export type ExpectedHeader = Readonly<{
  name: string;
  value: string | typeof ANY | ValueOfCapture | null;
}>;

export type Expected = Readonly<{
  /** As written in the file. */
  text: string;
  answer:
    | Readonly<{ kind: 'body'; status: number; members: ReadonlyMap<string, ExpectedValue> }>
    | Readonly<{ kind: 'same'; capture: string }>
    | Readonly<{ kind: 'text'; text: string }>;
  headers: readonly ExpectedHeader[];
}>;

/** The Idempotency-Key as sent; `fresh` is a new key. */
export type Key = Readonly<{ kind: 'fresh' } | { kind: 'none' } | { kind: 'wire'; text: string }>;

/** The code in a verification. */
export type TypedCode = Readonly<
  { kind: 'wrong' } | { kind: 'captured'; name: string } | { kind: 'literal'; text: string }
>;

/** The otp_id of a named answer, or a literal id. */
export type NamedOtp = Readonly<
  { kind: 'captured'; name: string } | { kind: 'literal'; text: string }
>;

/** The token that a named answer carried, or any text in its place. */
export type NamedToken = NamedOtp;

export type RequestOptions = Readonly<Partial<Record<'to' | 'channel' | 'locale', string>>>;

/** A request of a client. */
export type ClientAction =
  | Readonly<{
      kind: 'request';
      userId: string;
      purpose: string;
      address: string;
      /** Optional members of the body, valid or not. */
      options: RequestOptions;
      /** The list in Otp-Device; empty: no such header. */
      devices: readonly NamedToken[];
      key: Key;
    }>
  | Readonly<{
      kind: 'verify';
      userId: string;
      purpose: string;
      address: string;
      code: TypedCode;
      /** The OTP that the verification names; null: none. */
      otpId: NamedOtp | null;
      devices: readonly NamedToken[];
      key: Key;
    }>
  | Readonly<{
      kind: 'post';
      address: string;
      path: string;
      body: string;
      type: string;
      key: Key;
    }>
  | Readonly<{ kind: 'status' | 'cancel'; address: string; otp: NamedOtp; key: Key }>;

/**
 * An event without a request: an operator unlocks a user or a pair or revokes devices, counts the
 * messages, changes the channel, or waits for pending messages.
 */
export type FixtureAction =
  | Readonly<{ kind: 'unlock'; userId: string; purpose: string | null }>
  /** The device that received the named token; null: all devices of the user. */
  | Readonly<{ kind: 'revoke'; userId: string; device: string | null }>
  | Readonly<{ kind: 'messages' }>
  | Readonly<{ kind: 'channel'; sendResult: ChannelState['sendResult'] }>
  | Readonly<{ kind: 'settle' }>;

export type Action = ClientAction | FixtureAction;

/** Whether the fixture runs the event; else a client sends a request. */
export function isFixtureAction(action: Action): action is FixtureAction {
  return ['unlock', 'revoke', 'messages', 'channel', 'settle'].includes(action.kind);
}

export type Step = Readonly<{
  line: number;
  /** As written; `and` for an event that is simultaneous with the line before. */
  time: string;
  /** As written. */
  text: string;
  action: Action;
  times: number;
  /** From 1; null: the processes take turns. */
  process: number | null;
  /** The API client whose key is sent; null: none. */
  apiClient: string | null;
  /** False when an API client names no client address. */
  namesAddress: boolean;
  /** The name of the answer, and of the code it announced. */
  capture: string | null;
  expectedText: string;
  /** One expectation for each answer. */
  expected: readonly Expected[];
}>;

/** Simultaneous lines, at a UTC time such as `2026-01-05 08:00:00.000001`. */
export type Moment = Readonly<{ at: string; steps: readonly Step[] }>;

export type Scenario = Readonly<{
  file: string;
  /** The text of a policy file (src/otp/policy/policy-file.ts). */
  policy: string;
  processes: number;
  /** The names of the API clients; none: the endpoints are public. */
  apiClients: readonly string[];
  /** Those of them that may say where a message goes: their keys have the scope `to`. */
  destinationCallers: readonly string[];
  moments: readonly Moment[];
}>;

/** The errors of a file, each as `file:line: …`. */
export class ScenarioError extends Error {
  override name = 'ScenarioError';
}

/** An error in one line; the parser adds the place. */
export class LineError extends Error {
  override name = 'LineError';
}
