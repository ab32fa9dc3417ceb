/** The templates of all purposes and languages, and which of them a message gets. */
import { fallbacksOf } from './language-tags.ts';
import type { SayLifetime } from './lifetime.ts';
import type { Part } from './template-files.ts';
import type { Template } from './template.ts';

/** A template, and the words for lifetimes in its language. */
export type Entry = Readonly<{ template: Template; say: SayLifetime }>;

/** The purpose that stands for every other. */
const DEFAULT_PURPOSE = 'default';

/** Holds templates by purpose, language and part. */
export class TemplateStore {
  readonly #byPurpose = new Map<string, Map<string, Entry>>();
  readonly #lastResorts: readonly string[];

  /** @param lastResorts the languages of those whose own language has no template, in order */
  constructor(lastResorts: readonly string[]) {
    this.#lastResorts = lastResorts;
  }

  /** Puts a template in; it takes the place of one with the same purpose, language and part. */
  put(purpose: string, language: string, part: Part, entry: Entry): void {
    const own = this.#byPurpose.get(purpose) ?? new Map<string, Entry>();
    this.#byPurpose.set(purpose, own.set(`${language}.${part}`, entry));
  }

  /** Whether a part is written in a language, for the purpose or by default. */
  has(purpose: string, language: string, part: Part): boolean {
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
  get(purpose: string, locale: string, part: Part): Entry {
    for (const language of [locale, ...this.#lastResorts]) {
      const tags = fallbacksOf(language);
      for (const name of [purpose, DEFAULT_PURPOSE]) {
        for (const tag of tags) {
          const entry = this.#find(name, tag, part);
          if (entry !== undefined) return entry;
        }
      }
    }
    throw new Error(`no template default.${part}`);
  }

  #find(purpose: string, language: string, part: Part): Entry | undefined {
    return this.#byPurpose.get(purpose)?.get(`${language}.${part}`);
  }
}
