/**
 * Compiled templates, the choice of the template for a message, and the length of text messages. A
 * text in the GSM-7 alphabet (3GPP TS 23.038, 6.2.1) may have 160 characters in one message; with a
 * single character outside the alphabet it may have 70 (UCS-2).
 */
import type { ChannelName, TemplatePart } from '../channels/channel.ts';
import { fallbackTags } from './language-tags.ts';
import { POLICY_BOUNDS } from '../policy/policy.ts';

export type TemplateEntry = Readonly<{
  template: Template;
  path: string;
  /** A language tag in lower case. */
  language: string;
  formatDuration: FormatDuration;
}>;

/** The parts that each channel sends. */
export const CHANNEL_PARTS: Readonly<Record<ChannelName, readonly TemplatePart[]>>
  = Object.freeze({
    console: ['txt'],
    webhook: ['txt'],
    sms: ['txt'],
    email: ['subject.txt', 'email.txt', 'html'],
  });

/** Applies to every purpose without a template of its own. */
export const DEFAULT_PURPOSE = 'default';

export class TemplateStore {
  readonly #byPurpose = new Map<string, Map<string, TemplateEntry>>();
  readonly #languages = new Set<string>();
  readonly #fallbackLanguages: readonly string[];

  /** @param fallbackLanguages for messages whose own language has no template, in order */
  constructor(fallbackLanguages: readonly string[]) {
    this.#fallbackLanguages = fallbackLanguages;
  }

  /** The purposes that have files, `default` included. */
  get purposes(): Iterable<string> {
    return this.#byPurpose.keys();
  }

  get languages(): Iterable<string> {
    return this.#languages;
  }

  /** Replaces a template with the same purpose, language and part. */
  put(purpose: string, part: TemplatePart, entry: TemplateEntry): void {
    const own = this.#byPurpose.get(purpose) ?? new Map<string, TemplateEntry>();
    this.#byPurpose.set(purpose, own.set(`${entry.language}.${part}`, entry));
    this.#languages.add(entry.language);
  }

  /** Takes out texts of the default purpose, but none in a fallback language. */
  withdrawTexts(isUnfit: (entry: TemplateEntry) => boolean): void {
    const own = this.#byPurpose.get(DEFAULT_PURPOSE);
    const kept = this.#fallbackLanguages.flatMap(fallbackTags);
    for (const [name, entry] of own ?? []) {
      const { language } = entry;
      if (name === `${language}.txt` && !kept.includes(language) && isUnfit(entry)) {
        own!.delete(name);
      }
    }
  }

  /** Whether a file of exactly this purpose and language has one of the parts. */
  hasOwn(purpose: string, language: string, parts: readonly TemplatePart[]): boolean {
    const own = this.#byPurpose.get(purpose);
    return own !== undefined && parts.some((part) => own.has(`${language}.${part}`));
  }

  /** Whether a file of the purpose or of the default purpose in this language has a part. */
  has(purpose: string, language: string, parts: readonly TemplatePart[]): boolean {
    return this.hasOwn(purpose, language, parts)
      || this.hasOwn(DEFAULT_PURPOSE, language, parts);
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
      const entry = this.find(purpose, language, part);
      if (entry !== undefined) return entry;
    }
    throw new Error(`no template default.${part}`);
  }

  /** Like `get`, without the fallback languages. */
  find(purpose: string, language: string, part: TemplatePart): TemplateEntry | undefined {
    const tags = fallbackTags(language);
    for (const name of [purpose, DEFAULT_PURPOSE]) {
      const own = this.#byPurpose.get(name);
      for (const tag of tags) {
        const entry = own?.get(`${tag}.${part}`);
        if (entry !== undefined) return entry;
      }
    }
    return undefined;
  }
}

/** No client chooses any of them; the name that a client gives to a purpose is none of them. */
export type TemplateValues = Readonly<{
  code: string;
  /** The first characters of the otp_id, which tell a user's messages apart. */
  ref: string;
  lifetime: string;
  /** The label of the purpose; null leaves out the optional texts that contain it. */
  purpose: string | null;
  brand: string | null;
}>;

type Placeholder = keyof TemplateValues;

export const REF_CHARACTERS = 4;

export type Template = Readonly<{
  has: (placeholder: Placeholder) => boolean;
  /** Whether a placeholder stands in a text that is never left out. */
  requires: (placeholder: Placeholder) => boolean;
  /** Leaves out every optional text that has a placeholder without a value. */
  render: (values: TemplateValues) => string;
}>;

const PLACEHOLDERS: ReadonlySet<string>
  = new Set<Placeholder>(['code', 'purpose', 'lifetime', 'brand', 'ref']);

/** Matches braces around a name, not those around the declarations of a style sheet. */
const PLACEHOLDER = /\{([^{}:;\n]*)\}/;

/** Brackets make a text optional only if it has one of the values that may be missing. */
const OPTIONAL = /\[([^[\]]*\{(?:purpose|brand)\}[^[\]]*)\]/;

type Piece = Readonly<{
  /** Text and names alternate; the first and the last one are text. */
  parts: readonly string[];
  isOptional: boolean;
}>;

/** @returns the template, or the names in braces that are not placeholders */
export function compileTemplate(text: string): { template: Template } | { unknown: string[] } {
  const pieces: Piece[] = text.split(OPTIONAL).map((piece, index) =>
    ({ parts: piece.split(PLACEHOLDER), isOptional: index % 2 === 1 }));
  const required = pieces.filter(({ isOptional }) => !isOptional).flatMap(namesOf);
  const names = pieces.flatMap(namesOf);
  const unknown = names.filter((name) => !PLACEHOLDERS.has(name));
  if (unknown.length > 0) return { unknown };
  return {
    template: Object.freeze({
      has: (placeholder: Placeholder) => names.includes(placeholder),
      requires: (placeholder: Placeholder) => required.includes(placeholder),
      render: (values: TemplateValues) => {
        let rendered = '';
        for (const piece of pieces) rendered += renderPiece(piece, values);
        return rendered;
      },
    }),
  };
}

function namesOf({ parts }: Piece): string[] {
  return parts.filter((_, index) => index % 2 === 1);
}

function renderPiece({ parts, isOptional }: Piece, values: TemplateValues): string {
  let rendered = parts[0]!;
  for (let at = 1; at < parts.length; at += 2) {
    const value = values[parts[at] as Placeholder];
    if (value === null && isOptional) return '';
    rendered += (value ?? '') + parts[at + 1]!;
  }
  return rendered;
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

/** 140 bytes in one message (3GPP TS 23.040, 9.2.3.24): septets of GSM-7, or units of UCS-2. */
export const SMS_MAX_SEPTETS = 160;
const SMS_MAX_UNITS = 70;

const BASIC = '@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?'
  + '¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';

/** Each of these is sent after an escape septet (6.2.1.1). */
const EXTENDED = '^{}\\[~]|€';

/**
 * The cost of each UTF-16 code unit; 0 outside the alphabet. No GSM-7 character needs two units.
 */
const SEPTETS = new Uint8Array(0x10000);
for (const character of BASIC) SEPTETS[character.charCodeAt(0)] = 1;
for (const character of EXTENDED) SEPTETS[character.charCodeAt(0)] = 2;

/** The first character outside the alphabet. */
export function findNonGsmCharacter(text: string): string | null {
  for (const character of text) {
    if (SEPTETS[character.charCodeAt(0)] === 0) return character;
  }
  return null;
}

/** How long a text is, and how long it may be, both in septets or both in units of UCS-2. */
export function measureSms(text: string): Readonly<{ length: number; max: number }> {
  let septets = 0;
  for (let at = 0; at < text.length; at += 1) {
    const cost = SEPTETS[text.charCodeAt(at)]!;
    if (cost === 0) return { length: text.length, max: SMS_MAX_UNITS };
    septets += cost;
  }
  return { length: septets, max: SMS_MAX_SEPTETS };
}

/**
 * Renders a text. Its last line binds the code to a site, so that a browser offers it on that site
 * only (WICG, Origin-bound one-time codes delivered via SMS, 2). The blank line before it is left
 * out where it would need a second message.
 * @param domain the site where users enter codes; null for no last line
 */
export function renderSms(
  template: Template,
  values: TemplateValues,
  domain: string | null,
): string {
  const text = template.render(values);
  if (domain === null) return text;
  const lastLine = `@${domain} #${values.code}`;
  const spaced = `${text}\n\n${lastLine}`;
  const { length, max } = measureSms(spaced);
  return length <= max ? spaced : `${text}\n${lastLine}`;
}
