/** The words of a line: plain ones, "quoted" ones, 'bodies', [headers] and commas. */
import { LineFault } from './scenario.ts';

/** A word; `text` is what it stands for, `kind` how it was written. */
export type Word = Readonly<{
  kind: 'plain' | 'quoted' | 'body' | 'header' | 'comma';
  text: string;
}>;

const QUOTED = String.raw`"(?:[^"\\]|\\.)*"`;

/** One word, spaces before it included; the groups are in the order of `KINDS`. */
const WORD = new RegExp(
  String.raw`\s*(?:(${QUOTED})|'([^']*)'|\[([^\]]*)\]|(,)|([^\s"'[\],]+=${QUOTED}|[^\s"'[\],]+))`,
  'y',
);
const KINDS = ['quoted', 'body', 'header', 'comma', 'plain'] as const;

/**
 * Splits a text into words.
 *
 * @throws LineFault when a quote or bracket is not closed
 */
export function splitWords(text: string): Word[] {
  const words: Word[] = [];
  const end = text.trimEnd().length;
  WORD.lastIndex = 0;
  while (WORD.lastIndex < end) {
    const at = WORD.lastIndex;
    const found = WORD.exec(text);
    if (found === null) throw new LineFault(`unclosed quote or bracket: ${text.slice(at).trim()}`);
    const index = found.slice(1).findIndex((group) => group !== undefined);
    const kind = KINDS[index]!;
    const written = found[index + 1]!;
    words.push({ kind, text: kind === 'quoted' ? unquote(written) : written });
  }
  return words;
}

/**
 * The text in quotes; escapes are those of JSON, such as \u00fa.
 *
 * @throws LineFault when an escape is none
 */
export function unquote(written: string): string {
  try {
    return JSON.parse(written) as string;
  } catch {
    throw new LineFault(`not a quoted text: ${written}`);
  }
}

/** Reads words from left to right. */
export class WordReader {
  readonly #words: readonly Word[];
  #at = 0;

  constructor(text: string) {
    this.#words = splitWords(text);
  }

  /** True when no word is left. */
  get isAtEnd(): boolean {
    return this.#at === this.#words.length;
  }

  /** The next word, which stays; undefined at the end. */
  peek(ahead = 0): Word | undefined {
    return this.#words[this.#at + ahead];
  }

  /** Takes these plain words if they come next. */
  take(...texts: string[]): boolean {
    const isNext = texts.every((text, index) => {
      const word = this.peek(index);
      return word?.kind === 'plain' && word.text === text;
    });
    if (isNext) this.#at += texts.length;
    return isNext;
  }

  /** Takes these plain words, which must come next. */
  need(...texts: string[]): void {
    if (!this.take(...texts)) this.refuse(`"${texts.join(' ')}"`);
  }

  /** Takes a word of one of these kinds. */
  needKind(what: string, ...kinds: Word['kind'][]): string {
    const word = this.peek();
    if (word === undefined || !kinds.includes(word.kind)) return this.refuse(what);
    this.#at += 1;
    return word.text;
  }

  /** Takes a plain word that fits the pattern. */
  needMatch(what: string, pattern: RegExp): string {
    const word = this.peek();
    if (word?.kind !== 'plain' || !pattern.test(word.text)) return this.refuse(what);
    this.#at += 1;
    return word.text;
  }

  /** Says what was found and what is allowed in its place. */
  refuse(allowed: string): never {
    const word = this.peek();
    const found = word === undefined ? 'the end' : `"${word.text}"`;
    throw new LineFault(`found ${found}; allowed here: ${allowed}`);
  }
}
