/**
 * Finds mistakes in names: a member that an object repeats, which JSON.parse drops silently
 * (RFC 8259, 4), and a name that is nearly a known one.
 */

type Container = {
  /** The names so far; null in an array. */
  names: Set<string> | null;
  /** The member whose value is being read. */
  name: string;
};

/**
 * @param text valid JSON
 * @returns the path of the first repeated member, such as `default.user_limit`, or null
 */
export function findRepeatedMember(text: string): string | null {
  const open: Container[] = [];
  for (let at = 0; at < text.length;) {
    const char = text[at]!;
    if (char === '"') {
      const end = skipString(text, at);
      if (isRepeated(open.at(-1), text, at, end)) {
        return open.map(({ name }) => name).filter((name) => name !== '').join('.');
      }
      at = end;
      continue;
    }
    if (char === '{') open.push({ names: new Set(), name: '' });
    else if (char === '[') open.push({ names: null, name: '' });
    else if (char === '}' || char === ']') open.pop();
    at += 1;
  }
  return null;
}

/** Whether the string from `at` to `end` is a name that its object has already. */
function isRepeated(
  container: Container | undefined,
  text: string,
  at: number,
  end: number,
): boolean {
  if (!container?.names || !isBeforeColon(text, end)) return false;
  container.name = JSON.parse(text.slice(at, end)) as string;
  if (container.names.has(container.name)) return true;
  container.names.add(container.name);
  return false;
}

function isBeforeColon(text: string, at: number): boolean {
  let next = at;
  while (' \t\r\n'.includes(text.charAt(next)) && next < text.length) next += 1;
  return text.charAt(next) === ':';
}

/** Counts the string literals in valid JSON. */
export function countStrings(text: string): number {
  let count = 0;
  for (let at = text.indexOf('"'); at !== -1; at = text.indexOf('"', at)) {
    count += 1;
    at = skipString(text, at);
  }
  return count;
}

/** The index behind the string literal that starts at `start`. */
function skipString(text: string, start: number): number {
  let at = start + 1;
  while (text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
  return at + 1;
}

/** One slip is allowed for each seven characters of a name, or a part of seven. */
const CHARACTERS_PER_SLIP = 7;

/** The known name that a person probably meant, in any case; undefined when none resembles it. */
export function findMeant(name: string, known: Iterable<string>): string | undefined {
  const given = name.toUpperCase();
  return [...known].find((each) => isNearly(given, each.toUpperCase()));
}

/** The end of an error about an unknown name; '' when no known name resembles it. */
export function suggestion(name: string, known: Iterable<string>): string {
  const meant = findMeant(name, known);
  return meant === undefined ? '' : `; did you mean ${meant}?`;
}

function isNearly(name: string, known: string): boolean {
  const [shorter, longer] = name.length < known.length ? [name, known] : [known, name];
  // DB_PASS and DB_USERNAME: the same word, cut or continued.
  const isContinued = shorter.includes('_') && longer.startsWith(shorter)
    && !longer.slice(shorter.length).includes('_');
  return isContinued || distance(name, known) <= Math.ceil(known.length / CHARACTERS_PER_SLIP);
}

/** How many insertions, deletions, substitutions and swaps of neighbours turn a into b. */
function distance(a: string, b: string): number {
  let [before, above]: [number[], number[]] = [[], [...Array(b.length + 1).keys()]];
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const substituted = above[column - 1]! + Number(a[row - 1] !== b[column - 1]);
      const isSwap = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current.push(Math.min(above[column]! + 1, current[column - 1]! + 1, substituted,
        isSwap ? before[column - 2]! + 1 : Infinity));
    }
    [before, above] = [above, current];
  }
  return above[b.length]!;
}
