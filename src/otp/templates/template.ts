/** The templates of all purposes and languages, and which of them a message gets. */
import type { TemplatePart } from './files.ts';
import { fallbackTags } from './language-tags.ts';
import { POLICY_BOUNDS } from '../policy/policy.ts';

/** A template, and the words for lifetimes in its language. */
export type TemplateEntry = Readonly<{ template: Template; formatDuration: FormatDuration }>;

/** The purpose that stands for every other. */
const DEFAULT_PURPOSE = 'default';

/** Holds templates by purpose, language and part. */
export class TemplateStore {
  readonly #byPurpose = new Map<string, Map<string, TemplateEntry>>();
  readonly #fallbackLanguages: readonly string[];

  /** @param fallbackLanguages the languages of those whose own language has no template, in order */
  constructor(fallbackLanguages: readonly string[]) {
    this.#fallbackLanguages = fallbackLanguages;
  }

  /** Puts a template in; it takes the placeholder of one with the same purpose, language and part. */
  put(purpose: string, language: string, part: TemplatePart, entry: TemplateEntry): void {
    const own = this.#byPurpose.get(purpose) ?? new Map<string, TemplateEntry>();
    this.#byPurpose.set(purpose, own.set(`${language}.${part}`, entry));
  }

  /** Whether a part is written in a language, for the purpose or by default. */
  has(purpose: string, language: string, part: TemplatePart): boolean {
    return this.#find(purpose, language, part) !== undefined
      || this.#find(DEFAULT_PURPOSE, language, part) !== undefined;
  }

  /**
   * The template of a message (RFC 4647, 3.4): a language that its reader knows comes before what
   * is of the purpose's own. For `login` and `pt-br`, with English as the last resort, the first
   * of login.pt-br, login.pt, default.pt-br, default.pt, login.en, default.en.
   *
   * @param locale '' for a last resort
   * @throws Error when all are missing, which cannot be with the shipped templates
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

/** What a template can have a placeholder for. */
export type TemplateValues = Readonly<{ code: string; purpose: string; lifetime: string }>;
type Placeholder = keyof TemplateValues;

/** A compiled template. */
export type Template = Readonly<{
  /** How often a placeholder occurs. */
  count: (placeholder: Placeholder) => number;
  render: (values: TemplateValues) => string;
}>;

const PLACEHOLDERS: ReadonlySet<string> = new Set<Placeholder>(['code', 'purpose', 'lifetime']);

/** Braces around a name, not around the declarations of a style sheet. */
const PLACEHOLDER = /\{([^{}:;\n]*)\}/;

/**
 * Compiles the text of a template.
 *
 * @returns the template, or the names in braces that are no placeholder
 */
export function compileTemplate(text: string): { template: Template } | { unknown: string[] } {
  // Text and name take turns; the first and the last part are text.
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

/** Says a number of whole seconds, such as `5 minutes`, `90 seconds`, `1 minute`. */
export type FormatDuration = (seconds: number) => string;

const SECONDS_PER_MINUTE = 60;

/**
 * Makes the words of a language.
 *
 * @param locale a language tag; one that is unknown gets English
 * @returns minutes where they are whole, else seconds, with plain spaces
 */
export function createDurationFormatter(locale: string): FormatDuration {
  const formatOf = (unit: 'minute' | 'second') =>
    new Intl.NumberFormat([locale, 'en'], { style: 'unit', unit, unitDisplay: 'long' });
  const minutes = formatOf('minute');
  const seconds = formatOf('second');
  // Lifetimes are few, and formatting one takes longer than all the rest of a message.
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

/** Every text that can occur, for every lifetime that a policy can set. */
export function formatAllLifetimes(formatDuration: FormatDuration): string[] {
  const { min, max } = POLICY_BOUNDS.lifetimeSeconds;
  return Array.from({ length: max - min + 1 }, (_, index) => formatDuration(min + index));
}
