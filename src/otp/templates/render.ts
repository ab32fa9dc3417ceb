/** Renders messages from checked templates, escaped for each part. */
import type { Message, Templates } from '../channels/channel.ts';
import type { TemplatePart } from './files.ts';
import { fallbackTags, parseAcceptLanguage } from './language-tags.ts';
import { renderSms } from './sms-text.ts';
import type { TemplateEntry, TemplateStore, TemplateValues } from './template.ts';

/**
 * @param domain for the last line of a text message; null for none
 * @param language the default language, in lower case
 */
export function createTemplates(
  store: TemplateStore,
  domain: string | null,
  language: string,
): Templates {
  const renderPlain = (message: Message, part: TemplatePart): string => {
    const entry = store.get(message.purpose, message.locale, part);
    return entry.template.render(mapValues(toValues(message, entry), asOneLine));
  };
  return Object.freeze({
    text: (message) => {
      const entry = store.get(message.purpose, message.locale, 'txt');
      return renderSms(entry.template, toValues(message, entry), domain);
    },
    email: (message) => {
      const html = store.get(message.purpose, message.locale, 'html');
      return {
        subject: renderPlain(message, 'subject.txt'),
        text: renderPlain(message, 'email.txt'),
        html: html.template.render(mapValues(toValues(message, html), escapeHtml)),
      };
    },
    localeFor: (purpose, acceptLanguage) => {
      if (acceptLanguage === '') return '';
      for (const range of parseAcceptLanguage(acceptLanguage)) {
        if (range === '*') return '';
        for (const tag of fallbackTags(range)) {
          if (isIn(language, tag)) return '';
          if (store.has(purpose, tag, 'txt')) return tag;
        }
      }
      return '';
    },
  });
}

/** Whether a language satisfies a tag: `pt-br` satisfies `pt`. */
function isIn(language: string, tag: string): boolean {
  return fallbackTags(language).includes(tag);
}

function toValues(
  { code, purpose, lifetimeSeconds }: Message,
  { formatDuration }: TemplateEntry,
): TemplateValues {
  return { code, purpose, lifetime: formatDuration(lifetimeSeconds) };
}

function mapValues(values: TemplateValues, change: (value: string) => string): TemplateValues {
  const { code, purpose, lifetime } = values;
  return { code: change(code), purpose: change(purpose), lifetime: change(lifetime) };
}

/**
 * Replaces characters that break a line or change the text direction, so that a value cannot forge
 * the text around it.
 */
function asOneLine(value: string): string {
  return value.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, '?').toWellFormed();
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;',
};

function escapeHtml(value: string): string {
  return asOneLine(value).replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
