/** Compiled templates, and the choice of the template for a message. */
import type { TemplatePart } from './files.ts';
import { fallbackTags } from './language-tags.ts';
import { POLICY_BOUNDS } from '../policy/policy.ts';

export type TemplateEntry = Readonly<{ template: Template; formatDuration: FormatDuration }>;

/** Applies to every purpose without a template of its own. */
const DEFAULT_PURPOSE = 'default';

export class TemplateStore {
  readonly #byPurpose = new Map<string, Map<string, TemplateEntry>>();
  readonly #fallbackLanguages: readonly string[];

  /** @param fallbackLanguages for messages whose own language has no template, in order */
  constructor(fallbackLanguages: readonly string[]) {
    this.#fallbackLanguages = fallbackLanguages;
  }

  /** Replaces a template with the same purpose, language and part. */
  put(purpose: string, language: string, part: TemplatePart, entry: TemplateEntry): void {
    const own = this.#byPurpose.get(purpose) ?? new Map<string, TemplateEntry>();
    this.#byPurpose.set(purpose, own.set(`${language}.${part}`, entry));
  }

  /** Whether a template exists in this language for the purpose or for the default purpose. */
  has(purpose: string, language: string, part: TemplatePart): boolean {
    return this.#find(purpose, language, part) !== undefined
      || this.#find(DEFAULT_PURPOSE, language, part) !== undefined;
  }

  /**
   * Chooses the template of a message (RFC 4647, 3.4): the reader's language comes before the
   * purpose. For `login` and `pt-br` with English as fallback, the result is the first of
   * login.pt-br, login.pt, default.pt-br, default.pt, login.en, default.en.
   * @param locale '' for the fallback languages only
   * @throws Error when all are missing, which the shipped templates rule out
   */
  get(purpose: string, locale: string, part: TemplatePart): TemplateEntry {
    for (const language of [locale, ...this.#fallbackLanguages]) {
      const tags = fallbackTags(language);
      for (const name of [purpose, DEFAULT_PURPOSE]) {
        for (const tag of tags) {
          const entry = this.#find(name, tag, part);
          if (entry !== undefined) return entry;
        }
      }
    }
    throw new Error(`no template default.${part}`);
  }

  #find(purpose: string, language: string, part: TemplatePart): TemplateEntry | undefined {
    return this.#byPurpose.get(purpose)?.get(`${language}.${part}`);
  }
}

export type TemplateValues = Readonly<{ code: string; purpose: string; lifetime: string }>;
type Placeholder = keyof TemplateValues;

export type Template = Readonly<{
  /** How often a placeholder occurs. */
  count: (placeholder: Placeholder) => number;
  render: (values: TemplateValues) => string;
}>;

const PLACEHOLDERS: ReadonlySet<string> = new Set<Placeholder>(['code', 'purpose', 'lifetime']);

/** Matches braces around a name, not those around the declarations of a style sheet. */
const PLACEHOLDER = /\{([^{}:;\n]*)\}/;

/** @returns the template, or the names in braces that are not placeholders */
export function compileTemplate(text: string): { template: Template } | { unknown: string[] } {
  // Text and names alternate; the first and the last part are text.
  const parts = text.split(PLACEHOLDER);
  const names = parts.filter((_, index) => index % 2 === 1);
  const unknown = names.filter((name) => !PLACEHOLDERS.has(name));
  if (unknown.length > 0) return { unknown };
  return {
    template: Object.freeze({
      count: (placeholder: Placeholder) => names.filter((name) => name === placeholder).length,
      render: (values: TemplateValues) => {
        let rendered = parts[0]!;
        for (let at = 1; at < parts.length; at += 2) {
          rendered += values[parts[at] as Placeholder] + parts[at + 1]!;
        }
        return rendered;
      },
    }),
  };
}

/** Formats seconds as `5 minutes`, `90 seconds` or `1 minute`. */
export type FormatDuration = (seconds: number) => string;

const SECONDS_PER_MINUTE = 60;

/**
 * Formats whole minutes as minutes and anything else as seconds, with plain spaces.
 * @param locale a language tag; English when Node.js does not know the language
 */
export function createDurationFormatter(locale: string): FormatDuration {
  const formatOf = (unit: 'minute' | 'second') =>
    new Intl.NumberFormat([locale, 'en'], { style: 'unit', unit, unitDisplay: 'long' });
  const minutes = formatOf('minute');
  const seconds = formatOf('second');
  // There are few distinct lifetimes, and formatting costs more than the rest of a message.
  const known = new Map<number, string>();
  return (lifetime) => {
    let text = known.get(lifetime);
    if (text === undefined) {
      const isWhole = lifetime % SECONDS_PER_MINUTE === 0;
      text = isWhole ? minutes.format(lifetime / SECONDS_PER_MINUTE) : seconds.format(lifetime);
      text = text.replace(/\p{Zs}/gu, ' ');
      known.set(lifetime, text);
    }
    return text;
  };
}

/** The texts of every lifetime that a policy can set. */
export function formatAllLifetimes(formatDuration: FormatDuration): string[] {
  const { min, max } = POLICY_BOUNDS.lifetimeSeconds;
  return Array.from({ length: max - min + 1 }, (_, index) => formatDuration(min + index));
}
