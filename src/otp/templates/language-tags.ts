/**
 * Language tags (RFC 5646) in lower case, the choice among them (RFC 4647), and labels by language.
 */

/** Bounds the work on an unchecked field; a list that a person chose is shorter. */
const ACCEPT_LANGUAGE_MAX_CHARACTERS = 256;

const RANGE = /^[ \t]*(\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)[ \t]*(?:;[ \t]*q=([01](?:\.\d{0,3})?))?$/i;

/** Long enough for every tag in use (RFC 5646, 4.4.1). */
const TAG_MAX_CHARACTERS = 35;

/**
 * Whether Node.js has data for the language: otherwise any word of three letters would be a tag.
 */
export function isLanguageTag(text: string): boolean {
  if (text.length > TAG_MAX_CHARACTERS || !/^[a-z]{2,3}(?:-|$)/i.test(text)) return false;
  try {
    return Intl.NumberFormat.supportedLocalesOf(text).length === 1;
  } catch {
    return false;
  }
}

const EXTLANG = '[a-z]{3}(?:-[a-z]{3}){0,2}';
const VARIANT = '(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3})';
const EXTENSION = '[a-wyz0-9](?:-[a-z0-9]{2,8})+';
const PRIVATE_USE = 'x(?:-[a-z0-9]{1,8})+';
/** Registered before the syntax, which they break; the other grandfathered tags follow it. */
const IRREGULAR = 'en-gb-oed|sgn-(?:be-fr|be-nl|ch-de)|i-(?:ami|bnn|default|enochian|hak|klingon'
  + '|lux|mingo|navajo|pwn|tao|tay|tsu)';
const WELL_FORMED = new RegExp(`^(?:(?:[a-z]{2,3}(?:-${EXTLANG})?|[a-z]{4,8})(?:-[a-z]{4})?`
  + `(?:-(?:[a-z]{2}|[0-9]{3}))?(?:-${VARIANT})*(?:-${EXTENSION})*(?:-${PRIVATE_USE})?`
  + `|${PRIVATE_USE}|${IRREGULAR})$`, 'i');

/** Whether a text is a language tag by its syntax (RFC 5646, 2.2.9), in any letter case. */
export function isWellFormedTag(text: string): boolean {
  return WELL_FORMED.test(text);
}

/** A tag and its fallbacks: `pt-br`, then `pt` (RFC 4647, 3.4). Empty for ''. */
export function fallbackTags(tag: string): string[] {
  const tags: string[] = [];
  for (let end = tag.length; end > 0; end = tag.lastIndexOf('-', end - 1)) {
    tags.push(tag.slice(0, end));
  }
  return tags;
}

/**
 * Reads an unchecked Accept-Language field (RFC 9110, 12.5.4) in linear time. Skips malformed items
 * and everything beyond 256 characters.
 * @returns the language ranges in lower case, the preferred one first; `*` stands for any
 */
export function parseAcceptLanguage(field: string): string[] {
  const items = field.slice(0, ACCEPT_LANGUAGE_MAX_CHARACTERS).split(',');
  if (field.length > ACCEPT_LANGUAGE_MAX_CHARACTERS) items.pop();
  const wanted: { range: string; quality: number }[] = [];
  for (const item of items) {
    const match = RANGE.exec(item.trimEnd());
    if (match === null) continue;
    const quality = Number(match[2] ?? 1);
    if (quality > 0 && quality <= 1) wanted.push({ range: match[1]!.toLowerCase(), quality });
  }
  return wanted.sort((a, b) => b.quality - a.quality).map(({ range }) => range);
}

/**
 * How messages name a purpose, by language tag, or by ANY_LANGUAGE for languages without a label of
 * their own. Empty when messages do not name it.
 */
export type Labels = ReadonlyMap<string, string>;

export const ANY_LANGUAGE = '*';

/** The label in a language, or in one of its fallbacks; null when there is none. */
export function labelIn(labels: Labels, language: string): string | null {
  if (labels.size === 0) return null;
  const tag = fallbackTags(language).find((each) => labels.has(each)) ?? ANY_LANGUAGE;
  return labels.get(tag) ?? null;
}
