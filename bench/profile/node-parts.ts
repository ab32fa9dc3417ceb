/** The time of Node's main thread by parts of the program, out of what V8 has recorded. */

/** What V8 records: a tree of calls, and which of its leaves was running when. */
export type CpuProfile = Readonly<{
  nodes: readonly Readonly<{
    id: number;
    callFrame: Readonly<{ functionName: string; url: string }>;
    children?: readonly number[];
  }>[];
  samples: readonly number[];
  /** Microseconds before each sample. */
  timeDeltas: readonly number[];
}>;

/** Microseconds in the functions of a part, and in those of Node that it has called. */
export type PartTime = Readonly<{ own: number; beneath: number }>;

/** Parts by what their files are called; the first that fits. */
const PARTS: readonly (readonly [string, RegExp])[] = [
  ['bare: reading and answering', /\/bench\/dist\/targets\//],
  ['src/http: reading and answering', /\/dist\/http\//],
  ['src/otp/delivery, channels, words: messages', /\/dist\/otp\/(delivery|channels|words)\//],
  ['src/otp: the rules', /\/dist\/otp\//],
  ['src/db: statements, transactions, lists', /\/dist\/db\//],
  ['mysql2', /\/node_modules\/mysql2\//],
  ['src: log, metrics, process', /\/dist\//],
];

/** What records is no part of what is recorded. */
const RECORDER = /\/profile\/recorder\.js$/;

const ALONE = 'Node alone: parser, streams, event loop';

/** What V8 calls that is no function of anybody. */
const BESIDES: ReadonlyMap<string, string> = new Map([
  ['(garbage collector)', 'collecting garbage, on this thread'],
  ['(program)', 'outside of JavaScript'],
]);

/** The names of all parts, in the order in which they are told. */
export const PART_NAMES: readonly string[] = [
  ...PARTS.map(([name]) => name), ALONE, ...BESIDES.values(),
];

/** Sums up a profile, without idle time. A function of Node is of the part that called it. */
export function timesOf({ nodes, samples, timeDeltas }: CpuProfile): Map<string, PartTime> {
  const parents = new Map<number, number>();
  for (const { id, children = [] } of nodes) for (const child of children) parents.set(child, id);
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const urlOf = (id: number): string => byId.get(id)!.callFrame.url;
  const partOf = (id: number): string | null => {
    const url = urlOf(id);
    return PARTS.find(([, pattern]) => pattern.test(url))?.[0] ?? null;
  };
  const times = new Map<string, PartTime>();
  samples.forEach((leaf, index) => {
    const name = byId.get(leaf)!.callFrame.functionName;
    if (name === '(idle)' || name === '(root)') return;
    let owner: number | undefined = leaf;
    while (owner !== undefined && partOf(owner) === null) owner = parents.get(owner);
    if (owner !== undefined && RECORDER.test(urlOf(owner))) return;
    const part = BESIDES.get(name) ?? (owner === undefined ? ALONE : partOf(owner)!);
    const { own, beneath } = times.get(part) ?? { own: 0, beneath: 0 };
    const time = timeDeltas[index] ?? 0;
    times.set(part, owner === leaf || owner === undefined
      ? { own: own + time, beneath } : { own, beneath: beneath + time });
  });
  return times;
}
