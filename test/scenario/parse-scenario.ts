/** Parses a scenario file: setup lines, dates, and events with their expected answers. */
import { parsePolicies } from '../../src/otp/policy/policy-file.ts';
import { parseEvent } from './parse-event.ts';
import { parseExpectation } from './parse-expectation.ts';
import { isFixtureAction, LineError, ScenarioError } from './scenario.ts';
import type { Action, Expected, Moment, Scenario, Step } from './scenario.ts';
import { TokenReader } from './tokens.ts';

/** Enough for every race; each one costs the start of a process. */
const PROCESSES_MAX = 4;

const TIME = /^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?$/;
const ALLOWED = 'a "# comment", "date", "policy", "test identity", "processes", "callers", a time'
  + ' such as 08:00:00, or "and"';
const SETTINGS: ReadonlyMap<string, boolean> = new Map([['true', true], ['false', false]]);
const API_CLIENT_NAMES = /^[A-Za-z0-9_-]{1,32}(?:\+to)?(?: +[A-Za-z0-9_-]{1,32}(?:\+to)?)*$/;

type PolicyMembers = Record<string, number | boolean | null>;

type Draft = {
  date: string | null;
  processes: number;
  apiClients: readonly string[];
  destinationCallers: readonly string[];
  policy: {
    default: PolicyMembers;
    purposes: Record<string, PolicyMembers>;
    test_identities?: readonly object[];
  };
  moments: { at: string; steps: Step[] }[];
  /** The kind of event behind each `$name`, and its moment. */
  captures: Map<string, { kind: Action['kind']; moment: number }>;
};

/**
 * Parses the text of a file.
 *
 * @param file the name for messages
 * @throws ScenarioError with every error of the file as `file:line: …`
 */
export function parseScenario(file: string, text: string): Scenario {
  const draft: Draft = {
    date: null, processes: 1, apiClients: [], destinationCallers: [],
    policy: { default: {}, purposes: {} }, moments: [], captures: new Map(),
  };
  const errors: string[] = [];
  text.split('\n').forEach((line, index) => {
    try {
      parseLine(draft, line.trim(), index + 1);
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      errors.push(`${file}:${index + 1}: ${error.message}`);
    }
  });
  if (errors.length === 0 && draft.moments.length === 0) errors.push(`${file}:1: no event`);
  if (errors.length > 0) throw new ScenarioError(errors.join('\n'));
  const { processes, apiClients, destinationCallers, moments } = draft;
  const policy = JSON.stringify(draft.policy);
  return { file, policy, processes, apiClients, destinationCallers, moments };
}

function parseLine(draft: Draft, line: string, number: number): void {
  if (line === '' || line.startsWith('#')) return;
  const [first = ''] = line.split(/\s/, 1);
  const rest = line.slice(first.length).trim();
  if (first === 'date') parseDate(draft, rest);
  else if (first === 'policy') parsePolicy(draft, rest);
  else if (first === 'test') parseTestIdentity(draft, rest);
  else if (first === 'processes') parseProcesses(draft, rest);
  else if (first === 'callers') parseApiClients(draft, rest);
  else if (first === 'and' || TIME.test(first)) parseStep(draft, first, rest, number);
  else throw new LineError(`found "${first}"; allowed here: ${ALLOWED}`);
}

function parseDate(draft: Draft, rest: string): void {
  const isDay = /^\d{4}-\d\d-\d\d$/.test(rest)
    && !Number.isNaN(Date.parse(rest))
    && new Date(rest).toISOString().startsWith(rest);
  if (!isDay) throw new LineError(`found "${rest}"; allowed here: a day such as 2026-01-05`);
  if (draft.date !== null && rest <= draft.date) throw new LineError('time never goes back');
  draft.date = rest;
}

function parsePolicy(draft: Draft, rest: string): void {
  needSetup(draft, 'policy');
  const tokens = new TokenReader(rest);
  const purpose = tokens.take('of') ? tokens.needKind('a purpose', 'plain', 'quoted') : null;
  const name = tokens.needKind('the name of a number', 'plain');
  const text = tokens.needMatch('a whole number, none, true or false',
    /^(?:\d{1,9}|none|true|false)$/);
  const setting = SETTINGS.get(text) ?? (text === 'none' ? null : Number(text));
  if (!tokens.isAtEnd) tokens.refuse('nothing more');
  const parsed = parsePolicies(JSON.stringify(
    purpose === null ? { default: { [name]: setting } }
      : { purposes: { [purpose]: { [name]: setting } } }));
  if ('errors' in parsed) throw new LineError(parsed.errors.join('; '));
  if (purpose === null) draft.policy.default[name] = setting;
  else (draft.policy.purposes[purpose] ??= {})[name] = setting;
}

/** `identity U1 with "123456" for login until 2026-01-05`; `prefix` in place of `identity` */
function parseTestIdentity({ policy, ...draft }: Draft, rest: string): void {
  needSetup(draft, 'test');
  const tokens = new TokenReader(rest);
  const member = tokens.take('prefix') ? 'user_prefix' : 'user';
  if (member === 'user' && !tokens.take('identity')) tokens.refuse('"identity" or "prefix"');
  const user = tokens.needKind('a user', 'plain', 'quoted');
  tokens.need('with');
  const code = tokens.needKind('a code', 'quoted');
  tokens.need('for');
  const purpose = tokens.needKind('a purpose', 'plain', 'quoted');
  tokens.need('until');
  const until = tokens.needKind('a day', 'plain');
  if (!tokens.isAtEnd) tokens.refuse('nothing more');
  const identity = { [member]: user, code, purposes: [purpose], until };
  const parsed = parsePolicies(JSON.stringify({ ...policy, test_identities: [identity] }));
  if ('errors' in parsed) throw new LineError(parsed.errors.join('; '));
  policy.test_identities = [...policy.test_identities ?? [], identity];
}

function parseProcesses(draft: Draft, rest: string): void {
  needSetup(draft, 'processes');
  draft.processes = /^\d$/.test(rest) ? Number(rest) : 0;
  if (draft.processes < 1 || draft.processes > PROCESSES_MAX) {
    throw new LineError(`found "${rest}"; allowed here: a number from 1 to ${PROCESSES_MAX}`);
  }
}

function parseApiClients(draft: Draft, rest: string): void {
  needSetup(draft, 'callers');
  const written = rest.split(/ +/);
  const apiClients = written.map((name) => name.replace('+to', ''));
  if (!API_CLIENT_NAMES.test(rest) || new Set(apiClients).size < apiClients.length) {
    throw new LineError(`found "${rest}"; allowed here: names such as app1 app2+to, each once`);
  }
  draft.apiClients = apiClients;
  draft.destinationCallers = apiClients.filter((name) => written.includes(`${name}+to`));
}

function needSetup(draft: Pick<Draft, 'moments'>, word: string): void {
  if (draft.moments.length > 0) throw new LineError(`"${word}" must stand before the first event`);
}

function parseStep(draft: Draft, time: string, rest: string, line: number): void {
  const arrow = /^(.*?)\s+=>\s+(.*)$/.exec(rest);
  if (arrow === null) throw new LineError('an event needs "=> what is expected"');
  const [, text = '', expectedText = ''] = arrow;
  const event = parseEvent(text);
  const expected = parseExpectation(expectedText, event.action, event.times);
  const step: Step = { line, time, text, expectedText, expected, ...event };
  const moment = time === 'and' ? draft.moments.length - 1 : draft.moments.length;
  checkNames(draft, step, moment);
  if (time === 'and') joinMoment(draft, step);
  else draft.moments.push({ at: nextTime(draft, time), steps: [step] });
  if (step.capture !== null) draft.captures.set(step.capture, { kind: event.action.kind, moment });
}

/** Adds a step to the moment of the line before. Only requests can be simultaneous. */
function joinMoment(draft: Draft, step: Step): void {
  const moment = draft.moments.at(-1);
  if (moment === undefined) throw new LineError('"and" needs an event before it');
  const alone = [...moment.steps, step].find(({ action }) => isFixtureAction(action));
  if (alone !== undefined) throw new LineError(`"${alone.text}" stands alone, without "and"`);
  moment.steps.push(step);
}

function nextTime({ date, moments }: Draft, time: string): string {
  if (date === null) throw new LineError('a "date" line must stand before the first event');
  const [seconds = '', fraction = ''] = time.split('.');
  const at = `${date} ${seconds}.${fraction.padEnd(6, '0')}`;
  const before: Moment | undefined = moments.at(-1);
  if (before !== undefined && at < before.at) {
    throw new LineError(`time never goes back; the line before is at ${before.at}`);
  }
  return at;
}

/**
 * Checks names: a code can be used only after the moment of its request; answers can also be
 * compared within a moment.
 */
function checkNames({ captures, processes, apiClients }: Draft, step: Step, moment: number): void {
  const { action, capture, expected, process, apiClient } = step;
  if (process !== null && process > processes) {
    throw new LineError(`process ${process}, but there are only ${processes}`);
  }
  if (apiClient !== null && !apiClients.includes(apiClient)) {
    throw new LineError(`no "callers" line names ${apiClient}`);
  }
  if (capture !== null && captures.has(capture)) throw new LineError(`${capture} is named twice`);
  const needSource = (kind: Action['kind'], what: string, name: string): void => {
    const source = captures.get(name);
    if (source?.kind === kind && source.moment !== moment) return;
    throw new LineError(`no ${what} at an earlier moment is "as ${name}"`);
  };
  for (const name of namesIn(action)) needSource('request', 'request', name);
  for (const name of devicesIn(action)) needSource('verify', 'verification', name);
  for (const name of expected.flatMap(namesExpected)) {
    if (!captures.has(name)) throw new LineError(`no line before is "as ${name}"`);
  }
}

/** The `$names` of codes that an event refers to. */
function namesIn(action: Action): string[] {
  const named = action.kind === 'verify' ? [action.code, action.otpId]
    : 'otp' in action ? [action.otp] : [];
  return named.flatMap((one) => one?.kind === 'captured' ? [one.name] : []);
}

/** The `$names` of tokens that an event refers to. */
function devicesIn(action: Action): string[] {
  if (action.kind === 'revoke') return action.device === null ? [] : [action.device];
  if (!('devices' in action)) return [];
  return action.devices.flatMap((one) => one.kind === 'captured' ? [one.name] : []);
}

/** The `$names` of answers that an expectation refers to. */
function namesExpected({ answer, headers }: Expected): string[] {
  const ofHeaders = headers.flatMap(({ value }) =>
    value !== null && typeof value === 'object' ? [value.capture] : []);
  return answer.kind === 'same' ? [answer.capture, ...ofHeaders] : ofHeaders;
}
