/** The tokens of a line: plain words, "quoted" ones, 'bodies', [headers] and commas. */
import { LineError } from './scenario.ts';

/** `text` is the value, `kind` the notation. */
export type Token = Readonly<{
  kind: 'plain' | 'quoted' | 'body' | 'header' | 'comma';
  text: string;
}>;

const QUOTED = String.raw`"(?:[^"\\]|\\.)*"`;

/** One token with the spaces before it; the groups are in the order of `KINDS`. */
const TOKEN = new RegExp(
  String.raw`\s*(?:(${QUOTED})|'([^']*)'|\[([^\]]*)\]|(,)|([^\s"'[\],]+=${QUOTED}|[^\s"'[\],]+))`,
  'y',
);
const KINDS = ['quoted', 'body', 'header', 'comma', 'plain'] as const;

/**
 * Splits a text into tokens.
 *
 * @throws LineError when a quote or bracket is not closed
 */
export function splitTokens(text: string): Token[] {
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < end) {
    const at = TOKEN.lastIndex;
    const found = TOKEN.exec(text);
    if (found === null) throw new LineError(`unclosed quote or bracket: ${text.slice(at).trim()}`);
    const index = found.slice(1).findIndex((group) => group !== undefined);
    const kind = KINDS[index]!;
    const written = found[index + 1]!;
    tokens.push({ kind, text: kind === 'quoted' ? unquote(written) : written });
  }
  return tokens;
}

/**
 * Unquotes a text; escapes are those of JSON, such as \u00fa.
 *
 * @throws LineError when an escape is invalid
 */
export function unquote(written: string): string {
  try {
    return JSON.parse(written) as string;
  } catch {
    throw new LineError(`not a quoted text: ${written}`);
  }
}

/** Reads tokens from left to right. */
export class TokenReader {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(text: string) {
    this.#tokens = splitTokens(text);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#tokens.length;
  }

  /** Returns a coming token without taking it; undefined at the end. */
  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#at + ahead];
  }

  /** Takes these plain words if they come next. */
  take(...texts: string[]): boolean {
    const isNext = texts.every((text, index) => {
      const token = this.peek(index);
      return token?.kind === 'plain' && token.text === text;
    });
    if (isNext) this.#at += texts.length;
    return isNext;
  }

  /** Takes these plain words, which must come next. */
  need(...texts: string[]): void {
    if (!this.take(...texts)) this.refuse(`"${texts.join(' ')}"`);
  }

  /** Takes a token of one of these kinds. */
  needKind(what: string, ...kinds: Token['kind'][]): string {
    const token = this.peek();
    if (token === undefined || !kinds.includes(token.kind)) return this.refuse(what);
    this.#at += 1;
    return token.text;
  }

  /** Takes a plain word that matches the pattern. */
  needMatch(what: string, pattern: RegExp): string {
    const token = this.peek();
    if (token?.kind !== 'plain' || !pattern.test(token.text)) return this.refuse(what);
    this.#at += 1;
    return token.text;
  }

  /** Throws, with the token found and what is allowed. */
  refuse(allowed: string): never {
    const token = this.peek();
    const found = token === undefined ? 'the end' : `"${token.text}"`;
    throw new LineError(`found ${found}; allowed here: ${allowed}`);
  }
}
