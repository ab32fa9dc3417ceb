/**
 * Text messages in the GSM-7 alphabet (3GPP TS 23.038, 6.2.1). A single character outside the
 * alphabet would halve the capacity of a message.
 */
import type { Template, TemplateValues } from './template.ts';

/** A message of one part: 140 bytes (3GPP TS 23.040, 9.2.3.24). */
export const SMS_MAX_SEPTETS = 160;

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

const SUBSTITUTE = '?';

/** The length of a GSM-7 text; characters outside the alphabet count 0. */
export function countSeptets(text: string): number {
  let septets = 0;
  for (let at = 0; at < text.length; at += 1) septets += SEPTETS[text.charCodeAt(at)]!;
  return septets;
}

export function findNonGsmCharacter(text: string): string | null {
  for (const character of text) if (isNonGsm(character)) return character;
  return null;
}

/** Replaces line feeds and characters outside the alphabet. */
export function toGsmLine(text: string): string {
  if (findNonGsmCharacter(text) === null && !text.includes('\n')) return text;
  return [...text].map((character) =>
    (isNonGsm(character) || character === '\n' ? SUBSTITUTE : character)).join('');
}

/** The longest prefix of a GSM-7 text that fits. */
export function cutToSeptets(text: string, room: number): string {
  let septets = 0;
  for (let at = 0; at < text.length; at += 1) {
    septets += SEPTETS[text.charCodeAt(at)]!;
    if (septets > room) return text.slice(0, at);
  }
  return text;
}

function isNonGsm(character: string): boolean {
  return SEPTETS[character.charCodeAt(0)] === 0;
}

/**
 * Truncates the purpose, so that the text has at most 160 septets.
 * @param template checked by `validateTemplate`
 * @param domain the site where users enter codes; null for no last line
 */
export function renderSms(
  template: Template,
  values: TemplateValues,
  domain: string | null,
): string {
  const lastLine = domain === null ? null : originLine(domain, values.code);
  const bare = measure(template, { ...values, purpose: '' }, lastLine);
  const room = (SMS_MAX_SEPTETS - bare) / Math.max(template.count('purpose'), 1);
  const purpose = cutToSeptets(toGsmLine(values.purpose), room);
  const text = template.render({ ...values, purpose });
  if (lastLine === null) return text;
  const spaced = `${text}\n\n${lastLine}`;
  return countSeptets(spaced) <= SMS_MAX_SEPTETS ? spaced : `${text}\n${lastLine}`;
}

/** The length of a text and its last line, without truncation. */
export function measureSms(
  template: Template,
  values: TemplateValues,
  domain: string | null,
): number {
  return measure(template, values, domain === null ? null : originLine(domain, values.code));
}

function measure(template: Template, values: TemplateValues, lastLine: string | null): number {
  const text = template.render(values);
  return countSeptets(lastLine === null ? text : `${text}\n${lastLine}`);
}

/**
 * Binds the code to a site, so that a browser offers it on that site only (WICG, Origin-bound
 * one-time codes delivered via SMS, 2). The line must be the last one.
 */
function originLine(domain: string, code: string): string {
  return `@${domain} #${code}`;
}
