/** The options of npm run failover. */
import { parseArgs } from 'node:util';

/** The events in the order in which they happen. */
export const EVENT_NAMES = ['kill', 'stop', 'move', 'read-only', 'partition', 'quorum'] as const;

export type EventName = typeof EVENT_NAMES[number];

export type Options = Readonly<{
  events: readonly EventName[];
  /** How long the load of one event lasts. */
  seconds: number;
  /** More variables of otpd, such as a stricter mode. */
  environment: Readonly<Record<string, string>>;
  /** Settings of the members in place of the advised ones. */
  memberSettings: Readonly<Record<string, string>>;
  /** All events, with the settings that otpd has by default. */
  isWhole: boolean;
  /** The network namespace of the caller, from which this process was moved; null in place. */
  outside: string | null;
}>;

/** Calm, the longest event, and time to see what follows it. */
const SECONDS_MIN = 30;
const SECONDS_MAX = 300;
const SECONDS = 60;

export const USAGE = `usage: npm run failover -- [--only EVENT,…] [--seconds N] [--set NAME=VALUE]…
  events: ${EVENT_NAMES.join(', ')}
  N: from ${SECONDS_MIN} to ${SECONDS_MAX}, ${SECONDS} by default
  NAME: a variable of otpd, or in small letters one of MySQL`;

/** @throws Error with the usage */
export function readOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string' }, seconds: { type: 'string' }, outside: { type: 'string' },
      set: { type: 'string', multiple: true },
    },
  });
  const seconds = Number(values.seconds ?? SECONDS);
  if (!(seconds >= SECONDS_MIN && seconds <= SECONDS_MAX)) throw new Error(USAGE);
  const asked = values.only?.split(',') ?? [...EVENT_NAMES];
  const unknown = asked.filter((name) => !EVENT_NAMES.some((known) => known === name));
  if (unknown.length > 0) throw new Error(`no such event: ${unknown.join(', ')}\n${USAGE}`);
  const pairs = (values.set ?? []).map((text) => /^([A-Z_]+|[a-z_]+)=(.*)$/.exec(text));
  if (pairs.includes(null)) throw new Error(USAGE);
  const settings = pairs.map((pair): [string, string] => [pair![1]!, pair![2]!]);
  const isVariable = ([name]: [string, string]): boolean => name === name.toUpperCase();
  return {
    events: EVENT_NAMES.filter((name) => asked.includes(name)),
    seconds,
    environment: Object.fromEntries(settings.filter(isVariable)),
    memberSettings: Object.fromEntries(settings.filter((pair) => !isVariable(pair))),
    isWhole: values.only === undefined && pairs.length === 0 && seconds >= SECONDS,
    outside: values.outside ?? null,
  };
}
