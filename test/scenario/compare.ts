/** Compares an answer with its expectation, member by member. */
import type { Reply } from '../harness/client.ts';
import type { Expected, ExpectedHeader, ExpectedValue, ValueOfCapture } from './scenario.ts';
import { ANY } from './scenario.ts';

/** The answer to an event, or a text where there is no response. */
export type Got = Readonly<{ kind: 'reply'; reply: Reply } | { kind: 'text'; text: string }>;

export type NamedReplies = ReadonlyMap<string, Reply>;

/** Lists the differences, one line for each status, member or header. */
export function differences(expected: Expected, got: Got, named: NamedReplies): string[] {
  const { answer, headers } = expected;
  if (answer.kind === 'text' || got.kind === 'text') {
    const text = got.kind === 'text' ? got.text : String(got.reply.status);
    return text === expected.text ? [] : [describeDifference('', expected.text, text)];
  }
  const { reply } = got;
  const found = answer.kind === 'same'
    ? compareWhole(answer.capture, named.get(answer.capture), reply)
    : [...compareStatus(answer.status, reply), ...compareMembers(answer.members, reply.body)];
  return [...found, ...headers.flatMap((header) => compareHeader(header, reply, named))];
}

/** Compares the status and the bytes of the body. */
function compareWhole(name: string, first: Reply | undefined, reply: Reply): string[] {
  if (first === undefined) return [`${name} names no answer: its line was not answered`];
  if (first.text === reply.text && first.status === reply.status) return [];
  return [describeDifference('', `${first.status} ${first.text}`, `${reply.status} ${reply.text}`)];
}

function compareStatus(status: number, reply: Reply): string[] {
  if (reply.status === status) return [];
  return [describeDifference('status: ', String(status), String(reply.status))];
}

function compareMembers(
  members: ReadonlyMap<string, ExpectedValue>,
  body: Record<string, unknown>,
): string[] {
  const names = new Set([...members.keys(), ...Object.keys(body)]);
  return [...names].flatMap((name) => {
    const isExpected = members.has(name);
    const isThere = Object.hasOwn(body, name);
    const value = members.get(name);
    if (isExpected && isThere && (value === ANY || value === body[name])) return [];
    const wanted = isExpected ? describeValue(value) : 'no such member';
    return [describeDifference(`${name}: `, wanted,
      isThere ? describeValue(body[name]) : 'no such member')];
  });
}

function compareHeader(
  { name, value: expected }: ExpectedHeader,
  { headers }: Reply,
  named: NamedReplies,
): string[] {
  const found = headers[name.toLowerCase()];
  const value = expected === null || typeof expected !== 'object' ? expected
    : valueOf(expected, name, named);
  if (value === null ? found === undefined : found === value) return [];
  if (value === ANY && found !== undefined) return [];
  const wanted = value === ANY ? 'any value' : value ?? 'no such header';
  return [describeDifference(`[${name}]: `, wanted, String(found ?? 'no such header'))];
}

/** A text that no header has when the named answer has no such header. */
function valueOf({ capture }: ValueOfCapture, name: string, named: NamedReplies): string {
  return named.get(capture)?.headers[name.toLowerCase()]?.toString()
    ?? `that of ${capture}, which has none`;
}

function describeDifference(place: string, expected: string, got: string): string {
  return `${place}expected ${expected}, got ${got}`;
}

function describeValue(value: unknown): string {
  return value === ANY ? 'any value' : JSON.stringify(value);
}
