/** Renders messages from checked templates: nothing that a client sends is printed in one. */
import type { Message, TemplatePart, Templates } from '../channels/channel.ts';
import type { Policies } from '../policy/policy.ts';
import { fallbackTags, labelIn, parseAcceptLanguage } from './language-tags.ts';
import { CHANNEL_PARTS, REF_CHARACTERS, renderSms } from './template.ts';
import type { TemplateEntry, TemplateStore, TemplateValues } from './template.ts';

/** What every message of this configuration has in common. */
export type MessageSettings = Readonly<{
  /** MESSAGE_DOMAIN; null: no last line in a text message. */
  domain: string | null;
  /** MESSAGES_BRAND; null: texts with {brand} are left out. */
  brand: string | null;
  /** MESSAGES_LANGUAGE, in lower case. */
  language: string;
}>;

/** @param policies contain the labels of the purposes */
export function createTemplates(
  store: TemplateStore,
  { domain, brand, language }: MessageSettings,
  policies: Pick<Policies, 'for'>,
): Templates {
  const toValues = (
    { otpId, code, purpose, lifetimeSeconds }: Message,
    entry: TemplateEntry,
  ): TemplateValues => ({
    code,
    ref: otpId.slice(0, REF_CHARACTERS),
    lifetime: entry.formatDuration(lifetimeSeconds),
    purpose: labelIn(policies.for(purpose).labels, entry.language),
    brand,
  });
  const renderPlain = (message: Message, part: TemplatePart): string => {
    const entry = store.get(message.purpose, message.locale, part);
    return entry.template.render(toValues(message, entry));
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
        html: html.template.render(escapeHtml(toValues(message, html))),
      };
    },
    localeFor: (channel, purpose, acceptLanguage) => {
      if (acceptLanguage === '') return '';
      for (const range of parseAcceptLanguage(acceptLanguage)) {
        if (range === '*') return '';
        for (const tag of fallbackTags(range)) {
          if (isIn(language, tag)) return '';
          if (store.has(purpose, tag, CHANNEL_PARTS[channel])) return tag;
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

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;',
};

export function escapeMarkup(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

function escapeHtml({ code, ref, lifetime, purpose, brand }: TemplateValues): TemplateValues {
  return {
    code,
    ref,
    lifetime: escapeMarkup(lifetime),
    purpose: purpose === null ? null : escapeMarkup(purpose),
    brand: brand === null ? null : escapeMarkup(brand),
  };
}
