/** Loads the shipped templates and the operator's own at the start, and checks them. */
import { fileURLToPath } from 'node:url';
import type { ChannelName, Templates } from '../channels/channel.ts';
import { toDomainName } from '../channels/recipients.ts';
import { templateKey, readTemplateFiles } from './files.ts';
import type { TemplateFile } from './files.ts';
import { isLanguageTag } from './language-tags.ts';
import { identityRule, isIdentity, LABEL_MAX_CHARACTERS } from '../outcomes.ts';
import type { Policies } from '../policy/policy.ts';
import { createTemplates } from './render.ts';
import type { MessageSettings } from './render.ts';
import { compileTemplate, createDurationFormatter, TemplateStore } from './template.ts';
import type { FormatDuration, Template } from './template.ts';
import {
  findIncomplete, validateMessages, validateTemplate, withdrawLongTexts,
} from './validate.ts';

/** The same path from src/ and from dist/. */
const SHIPPED_FOLDER = fileURLToPath(new URL('../../../messages/', import.meta.url));

/** The language of the shipped templates without a locale. */
const SHIPPED_LANGUAGE = 'en';

type TemplateSettings = Readonly<{
  /** MESSAGES_FOLDER: a file replaces the shipped file of the same name. */
  folder: string | null;
  /** MESSAGE_DOMAIN: the site where users enter codes, for the last line of a text message. */
  domain: string | null;
  /** MESSAGES_LANGUAGE: for users without a language, and for own templates without a locale. */
  language?: string | null;
  /** MESSAGES_BRAND: replaces {brand}. */
  brand?: string | null;
  /** Decide which parts are needed, and whether the bounds of a phone apply. */
  channels: readonly ChannelName[];
}>;

/** Checked templates. The policies in force supply the labels of purposes. */
export type TemplateSet = Readonly<{
  /** @returns every error that the labels of these policies cause */
  validate: (policies: Policies) => string[];
  /** @param policies may change later to others without an error */
  withLabels: (policies: Pick<Policies, 'for'>) => Templates;
}>;

/** @returns the templates, or every error with its setting or file and what is allowed */
export function loadTemplates(
  settings: TemplateSettings,
): { templates: TemplateSet } | { errors: string[] } {
  const { folder, channels } = settings;
  const errors: string[] = [];
  const common: MessageSettings = {
    domain: checkDomain(settings.domain, errors),
    brand: checkBrand(settings.brand ?? null, errors),
    language: checkLanguage(settings.language ?? SHIPPED_LANGUAGE, errors),
  };
  const shipped = readTemplateFiles(SHIPPED_FOLDER, SHIPPED_LANGUAGE, errors);
  const own = readOwn(folder, common.language, errors);
  const files = new Map([...shipped, ...own].map((file) => [templateKey(file), file]));
  const store = new TemplateStore([common.language, SHIPPED_LANGUAGE]);
  const lifetimes = new Map<string, FormatDuration>();
  for (const file of files.values()) {
    const { path, purpose, part, language } = file;
    const formatDuration = lifetimes.get(language) ?? createDurationFormatter(language);
    lifetimes.set(language, formatDuration);
    const template = compile(file, common.brand, errors);
    if (template !== null) store.put(purpose, part, { template, path, language, formatDuration });
  }
  if (channels.includes('sms')) withdrawLongTexts(store, common, SHIPPED_FOLDER);
  if (errors.length === 0) errors.push(...findIncomplete(store, common.language, channels));
  return errors.length > 0 ? { errors } : { templates: Object.freeze({
    validate: (policies: Policies) => validateMessages(store, common, channels, policies),
    withLabels: (policies: Pick<Policies, 'for'>) => createTemplates(store, common, policies),
  }) };
}

function checkDomain(domain: string | null, errors: string[]): string | null {
  const name = domain === null ? null : toDomainName(domain);
  if (domain !== null && name === null) {
    errors.push('MESSAGE_DOMAIN must be a domain name such as example.com, without a scheme or a'
      + ' port');
  }
  return name;
}

function checkBrand(brand: string | null, errors: string[]): string | null {
  if (brand === null || isIdentity(brand, LABEL_MAX_CHARACTERS)) return brand;
  errors.push(`MESSAGES_BRAND ${identityRule(LABEL_MAX_CHARACTERS)}`);
  return null;
}

function checkLanguage(language: string, errors: string[]): string {
  const tag = language.toLowerCase();
  if (isLanguageTag(tag)) return tag;
  errors.push('MESSAGES_LANGUAGE must be a language tag such as de or pt-BR');
  return SHIPPED_LANGUAGE;
}

function readOwn(folder: string | null, language: string, errors: string[]): TemplateFile[] {
  if (folder === null) return [];
  try {
    return readTemplateFiles(folder, language, errors);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    errors.push(`MESSAGES_FOLDER must name a readable folder: ${folder} (${code})`);
    return [];
  }
}

function compile(file: TemplateFile, brand: string | null, errors: string[]): Template | null {
  const compiled = compileTemplate(file.text);
  if ('unknown' in compiled) {
    const names = compiled.unknown.map((name) => `{${name}}`).join(', ');
    errors.push(`${file.path} may contain only {code}, {purpose}, {brand}, {lifetime} and {ref},`
      + ` not ${names}`);
    return null;
  }
  const found = validateTemplate(file, compiled.template, brand);
  errors.push(...found.map((error) => `${file.path} ${error}`));
  return found.length > 0 ? null : compiled.template;
}
