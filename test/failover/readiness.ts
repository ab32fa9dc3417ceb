/**
 * Whether /readyz is right, held against what the servers say of themselves at that moment: role,
 * majority, writable.
 */

/** What one server says of itself. */
export type Facts = Readonly<{
  /** ONLINE, RECOVERING, ERROR, OFFLINE. */
  state: string;
  isPrimary: boolean;
  takesWrites: boolean;
  hasMajority: boolean;
  /** How many members it counts in its group. */
  members: number;
}>;

/** What the servers say together; the last four mean that /readyz must be 503. */
export type Verdict = 'ready' | 'either' | 'read_only' | 'quorum' | 'database';

export type VerdictAt = Readonly<{ atMs: number; verdict: Verdict; primary: number | null }>;

/** One answer of /readyz; `failed` is empty for a 200, and null without an answer. */
export type Probe = Readonly<{ atMs: number; isReady: boolean; failed: readonly string[] | null }>;

/** The longest time for which /readyz was wrong, in either direction. */
export type Delays = Readonly<{ to503Ms: number; to200Ms: number }>;

/**
 * Servers that have not yet noticed a lost member still say that all is well while commits hang.
 * A 503 is right then, too: no write has been answered for this time.
 */
const SILENT_MS = 500;

export function isReady(facts: Facts | null): boolean {
  return facts !== null && facts.state === 'ONLINE' && facts.isPrimary && facts.takesWrites
    && facts.hasMajority;
}

/** @param sinceWriteMs the age of the last write that was answered */
export function judge(all: readonly (Facts | null)[], sinceWriteMs: number): Verdict {
  if (all.some(isReady)) return sinceWriteMs > SILENT_MS ? 'either' : 'ready';
  if (all.some((facts) => facts?.isPrimary && facts.takesWrites)) return 'quorum';
  return all.some((facts) => facts !== null) ? 'read_only' : 'database';
}

/** Measures how long the answers contradicted the servers. Both are in the order of time. */
export function measureDelays(verdicts: readonly VerdictAt[], probes: readonly Probe[]): Delays {
  const times = [...new Set([...verdicts, ...probes].map(({ atMs }) => atMs))]
    .sort((a, b) => a - b);
  const longest = { to503Ms: 0, to200Ms: 0 };
  let [verdictsSeen, probesSeen] = [0, 0];
  let [wrong, sinceMs]: [keyof Delays | null, number] = [null, 0];
  for (const atMs of times) {
    if (wrong !== null) longest[wrong] = Math.max(longest[wrong], atMs - sinceMs);
    while (verdicts[verdictsSeen] && verdicts[verdictsSeen]!.atMs <= atMs) verdictsSeen += 1;
    while (probes[probesSeen] && probes[probesSeen]!.atMs <= atMs) probesSeen += 1;
    const kind = contradiction(verdicts[verdictsSeen - 1], probes[probesSeen - 1]);
    if (kind !== wrong) [wrong, sinceMs] = [kind, atMs];
  }
  return longest;
}

function contradiction(
  said: VerdictAt | undefined,
  probe: Probe | undefined,
): keyof Delays | null {
  if (said === undefined || probe === undefined || said.verdict === 'either') return null;
  const mustBeReady = said.verdict === 'ready';
  if (mustBeReady === probe.isReady) return null;
  return mustBeReady ? 'to200Ms' : 'to503Ms';
}

/** The answers of /readyz as one line: each change with its time after the event. */
export function describeProbes(probes: readonly Probe[], eventMs: number): string {
  return describeChanges(probes, eventMs, ({ isReady: is200, failed }) =>
    (is200 ? '200' : failed === null ? 'no answer' : `503 ${failed.join(' ')}`));
}

/** What the servers said, in the same way; `either` is ready without an answered write. */
export function describeVerdicts(verdicts: readonly VerdictAt[], eventMs: number): string {
  return describeChanges(verdicts, eventMs, ({ verdict }) => verdict);
}

function describeChanges<T extends Readonly<{ atMs: number }>>(
  all: readonly T[],
  eventMs: number,
  wordOf: (one: T) => string,
): string {
  const changes: string[] = [];
  let last = '';
  for (const one of all) {
    const word = wordOf(one);
    if (word === last) continue;
    const seconds = (one.atMs - eventMs) / 1000;
    changes.push(seconds < 0 ? word : `${seconds.toFixed(1)} s ${word}`);
    last = word;
  }
  return changes.join(', ');
}
