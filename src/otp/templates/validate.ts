/** Checks templates and labels at the start, so that no message can fail on them later. */
import type { ChannelName } from '../channels/channel.ts';
import type { TemplateFile } from './files.ts';
import { labelIn } from './language-tags.ts';
import { POLICY_BOUNDS } from '../policy/policy.ts';
import type { Policies } from '../policy/policy.ts';
import type { MessageSettings } from './render.ts';
import {
  CHANNEL_PARTS, DEFAULT_PURPOSE, findNonGsmCharacter, formatAllLifetimes, measureSms,
  REF_CHARACTERS, renderSms, SMS_MAX_SEPTETS,
} from './template.ts';
import type { FormatDuration, Template, TemplateEntry, TemplateStore } from './template.ts';

const SUBJECT_MAX_CHARACTERS = 150;

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

/** @returns one sentence per broken rule, without the path */
export function validateTemplate(
  { part, text }: TemplateFile,
  template: Template,
  brand: string | null,
): string[] {
  const errors: string[] = [];
  if (part !== 'subject.txt' && !template.requires('code')) {
    errors.push(template.has('code') ? 'must contain {code} outside brackets'
      : 'must contain {code}');
  }
  if (brand === null && template.requires('brand')) {
    errors.push('contains {brand}, so MESSAGES_BRAND must be set, or the text must stand in'
      + ' brackets: [{brand}: ]');
  }
  if (CONTROL.test(text)) errors.push('must not contain control characters');
  if (part === 'subject.txt') errors.push(...validateSubject(text, template));
  if (part === 'html') errors.push(...validateHtml(text));
  return errors;
}

/** Without a label or a brand, an optional text is left out, and the rest must not be empty. */
function validateSubject(text: string, template: Template): string[] {
  const shortest = template.render(
    { code: '0', ref: '0', lifetime: '0', purpose: null, brand: null },
  );
  const isEmpty = shortest.trim() === '' && !template.requires('purpose');
  const isOneLine = !isEmpty && !/[\n\t]/.test(text);
  if (isOneLine && [...text].length <= SUBJECT_MAX_CHARACTERS) return [];
  return [`must be one line of 1 to ${SUBJECT_MAX_CHARACTERS} characters`];
}

function validateHtml(text: string): string[] {
  const found = FORBIDDEN_IN_HTML.flatMap((pattern) => pattern.exec(text)?.[0] ?? []);
  return found.map((what) => `must not contain links, scripts or external resources: ${what}`);
}

type Labelled = Pick<Policies, 'default' | 'for' | 'allows' | 'isOpen' | 'listed'>;

/**
 * Checks what depends on several files, on the labels in the policies and on the channels.
 * @returns one sentence per error
 */
export function validateMessages(
  store: TemplateStore,
  settings: MessageSettings,
  channels: readonly ChannelName[],
  policies: Labelled,
): string[] {
  const parts = [...new Set(channels.flatMap((name) => CHANNEL_PARTS[name]))];
  const errors = new Set<string>();
  const purposes = [...policies.listed, ...store.purposes]
    .filter((purpose) => policies.allows(purpose))
    .map((purpose) => [purpose, policies.for(purpose)] as const);
  if (policies.isOpen) purposes.unshift([DEFAULT_PURPOSE, policies.default]);
  for (const [purpose, { labels }] of purposes) {
    for (const language of store.languages) {
      for (const part of parts) {
        const entry = store.get(purpose, language, part);
        const label = labelIn(labels, entry.language);
        if (label === null && entry.template.requires('purpose')) {
          errors.add(describeMissingLabel(entry, purpose));
        } else if (part === 'txt' && channels.includes('sms')) {
          const error = validateSms(entry, label, settings);
          if (error !== null) errors.add(`${entry.path} ${error}`);
        }
      }
    }
  }
  return [...errors];
}

function describeMissingLabel({ path, language }: TemplateEntry, purpose: string): string {
  const who = purpose === DEFAULT_PURPOSE ? 'purposes may have' : `the purpose ${purpose} has`;
  return `${path} contains {purpose} outside brackets, but ${who} no label in ${language}: set`
    + ' one in POLICY_FILE, or write [ for {purpose}], which is left out without a label';
}

/** The longest lifetimes of a language, inside and outside GSM-7. */
const longestLifetimes = new WeakMap<FormatDuration, readonly string[]>();

function findLongestLifetimes(formatDuration: FormatDuration): readonly string[] {
  let longest = longestLifetimes.get(formatDuration);
  if (longest === undefined) {
    const all = formatAllLifetimes(formatDuration);
    longest = [true, false].flatMap((isGsm) => {
      const some = all.filter((text) => (findNonGsmCharacter(text) === null) === isGsm);
      return some.sort((a, b) => b.length - a.length).slice(0, 1);
    });
    longestLifetimes.set(formatDuration, longest);
  }
  return longest;
}

/** Null when every text of a template fits in one message. */
function validateSms(
  { template, formatDuration }: TemplateEntry,
  purpose: string | null,
  { domain, brand }: MessageSettings,
): string | null {
  const code = '0'.repeat(POLICY_BOUNDS.codeDigits.max);
  const ref = '0'.repeat(REF_CHARACTERS);
  for (const lifetime of findLongestLifetimes(formatDuration)) {
    const text = renderSms(template, { code, ref, lifetime, purpose, brand }, domain);
    const { length, max } = measureSms(text);
    if (length > max) {
      const counted = [
        `a code of ${code.length} digits`,
        template.has('ref') ? `a reference of ${ref.length} characters` : '',
        purpose !== null && template.has('purpose') ? `the label "${purpose}"` : '',
        brand !== null && template.has('brand') ? `the brand "${brand}"` : '',
        template.has('lifetime') ? `the lifetime "${lifetime}"` : '',
        domain === null ? '' : `the last line "@${domain} #${'0'.repeat(6)}…"`,
      ].filter((each) => each !== '').join(', ');
      return `must have at most ${max} characters${describeAlphabet(text, max)}, not ${length},`
        + ` with ${counted}`;
    }
  }
  return null;
}

/**
 * Takes out the shipped texts that do not fit in one text message with the brand and the domain, as
 * those beyond GSM-7 may not: nobody has asked for their language.
 */
export function withdrawLongTexts(
  store: TemplateStore,
  settings: MessageSettings,
  shippedFolder: string,
): void {
  store.withdrawTexts((entry) => entry.path.startsWith(shippedFolder)
    && validateSms(entry, null, settings) !== null);
}

function describeAlphabet(text: string, max: number): string {
  if (max === SMS_MAX_SEPTETS) return ' of GSM-7';
  const character = findNonGsmCharacter(text)!;
  const codePoint = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
  return `, because "${character}" (U+${codePoint}) is not in GSM-7`;
}

/**
 * Finds languages in which a channel has only some of its parts: a message would mix languages.
 * @returns one sentence per language and purpose
 */
export function findIncomplete(
  store: TemplateStore,
  language: string,
  channels: readonly ChannelName[],
): string[] {
  const errors = new Set<string>();
  for (const channel of channels) {
    const parts = CHANNEL_PARTS[channel];
    for (const purpose of store.purposes) {
      for (const each of new Set([...store.languages, language])) {
        const isWanted = store.hasOwn(purpose, each, parts)
          || (purpose === DEFAULT_PURPOSE && each === language);
        const missing = parts.filter((part) => store.find(purpose, each, part) === undefined);
        if (!isWanted || missing.length === 0) continue;
        const files = missing.map((part) => `${purpose}.${each}.${part}`).join(' and ');
        errors.add(`MESSAGES_FOLDER must contain ${files}, because a message by ${channel} in`
          + ` ${each} needs ${parts.join(', ')}`);
      }
    }
  }
  return [...errors];
}
