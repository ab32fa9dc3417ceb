/** Checks templates at the start, so that no message can fail on a template later. */
import type { TemplateFile } from './files.ts';
import { POLICY_BOUNDS } from '../policy/policy.ts';
import { countSeptets, findNonGsmCharacter, measureSms, SMS_MAX_SEPTETS } from './sms-text.ts';
import { formatAllLifetimes } from './template.ts';
import type { FormatDuration, Template } from './template.ts';

const SUBJECT_MAX_CHARACTERS = 150;

/** A purpose of this length is never truncated. */
const WHOLE_PURPOSE_CHARACTERS = 20;

/** Line feeds and tabs are the only control characters that a text may contain. */
const CONTROL = /[^\P{Cc}\n\t]/u;

/** Markup that could link, load or run something. */
const FORBIDDEN_IN_HTML = [
  /<\s*(?:a|area|audio|base|embed|form|frame|iframe|image|img|link)\b/i,
  /<\s*(?:applet|object|picture|script|source|svg|video)\b/i,
  /<\s*meta\b[^>]*\bhttp-equiv\b/i,
  /\b(?:href|src|srcset|background|action|poster|ping|cite|longdesc)\s*=/i,
  /<[^<>]*[\s"'/]on[a-z]+\s*=/i,
  /\burl\s*\(/i,
  /@import\b/i,
  /\b(?:https?|ftp|mailto|javascript):/i,
  /\/\//,
];

/**
 * @param domain for the last line of a text message; null for none
 * @returns one sentence per broken rule, without the path
 */
export function validateTemplate(
  { part, text }: TemplateFile,
  template: Template,
  formatDuration: FormatDuration,
  domain: string | null,
): string[] {
  const errors: string[] = [];
  if (part !== 'subject.txt' && template.count('code') === 0) errors.push('must contain {code}');
  if (CONTROL.test(text)) errors.push('must not contain control characters');
  if (part === 'subject.txt') errors.push(...validateSubject(text));
  if (part === 'html') errors.push(...validateHtml(text));
  if (part === 'txt') errors.push(...validateSms(text, template, formatDuration, domain));
  return errors;
}

function validateSubject(text: string): string[] {
  const isOneLine = text.trim() !== '' && !/[\n\t]/.test(text);
  if (isOneLine && [...text].length <= SUBJECT_MAX_CHARACTERS) return [];
  return [`must be one line of 1 to ${SUBJECT_MAX_CHARACTERS} characters`];
}

function validateHtml(text: string): string[] {
  const found = FORBIDDEN_IN_HTML.flatMap((pattern) => pattern.exec(text)?.[0] ?? []);
  return found.map((what) => `must not contain links, scripts or external resources: ${what}`);
}

function validateSms(
  text: string,
  template: Template,
  formatDuration: FormatDuration,
  domain: string | null,
): string[] {
  const lifetimes = template.count('lifetime') === 0 ? [''] : formatAllLifetimes(formatDuration);
  const character = findNonGsmCharacter([text, ...lifetimes].join(''));
  if (character !== null) {
    const codePoint = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
    return [`must contain only characters of GSM-7, not "${character}"`
      + ` (U+${codePoint})`];
  }
  const longest = lifetimes.reduce((a, b) => (countSeptets(b) > countSeptets(a) ? b : a));
  const septets = measureSms(template, {
    code: '0'.repeat(POLICY_BOUNDS.codeDigits.max),
    purpose: 'p'.repeat(WHOLE_PURPOSE_CHARACTERS),
    lifetime: longest,
  }, domain);
  if (septets <= SMS_MAX_SEPTETS) return [];
  const counted = [
    `a code of ${POLICY_BOUNDS.codeDigits.max} digits`,
    `a purpose of ${WHOLE_PURPOSE_CHARACTERS} characters`,
    longest === '' ? '' : `the lifetime "${longest}"`,
    domain === null ? '' : `the last line "@${domain} #${'0'.repeat(6)}…"`,
  ].filter((text) => text !== '').join(', ');
  return [`must have at most ${SMS_MAX_SEPTETS} characters of GSM-7, not ${septets},`
    + ` with ${counted}`];
}
