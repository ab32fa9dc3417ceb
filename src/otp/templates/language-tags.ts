/** Language tags (RFC 5646), in lower case: which are wanted, and what stands in for which. */
/** Of any content; a list that a person has set is shorter. */
const ACCEPT_LANGUAGE_MAX_CHARACTERS = 256;

const RANGE = /^[ \t]*(\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)[ \t]*(?:;[ \t]*q=([01](?:\.\d{0,3})?))?$/i;

/** As long as every tag in use can be (RFC 5646, 4.4.1). */
const TAG_MAX_CHARACTERS = 35;

/** Whether a text is the tag of a language that Node.js has words in, not just three letters. */
export function isLanguageTag(text: string): boolean {
  if (text.length > TAG_MAX_CHARACTERS || !/^[a-z]{2,3}(?:-|$)/i.test(text)) return false;
  try {
    return Intl.NumberFormat.supportedLocalesOf(text).length === 1;
  } catch {
    return false;
  }
}

/** A tag and what stands in for it: `pt-br`, then `pt` (RFC 4647, 3.4). None for ''. */
export function fallbackTags(tag: string): string[] {
  const tags: string[] = [];
  for (let end = tag.length; end > 0; end = tag.lastIndexOf('-', end - 1)) {
    tags.push(tag.slice(0, end));
  }
  return tags;
}

/**
 * Reads an Accept-Language field (RFC 9110, 12.5.4) of any content, in linear time.
 *
 * @returns the ranges that are wanted, in lower case, the most wanted first; `*` is any. What is
 *   malformed, or beyond 256 characters, is passed over
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
