/**
 * The alphabet of text messages, and what a character of it costs (3GPP TS 23.038, 6.2.1). One
 * character outside it would halve what fits into a message.
 */
import type { Template, TemplateValues } from './template.ts';

/** One message that is not split: 140 bytes (3GPP TS 23.040, 9.2.3.24). */
export const SMS_MAX_SEPTETS = 160;

const BASIC = '@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?'
  + '¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';

/** Each is sent behind an escape (6.2.1.1). */
const EXTENDED = '^{}\\[~]|€';

/** By UTF-16 code unit: no character of the alphabet takes two. 0: outside it. */
const SEPTETS = new Uint8Array(0x10000);
for (const character of BASIC) SEPTETS[character.charCodeAt(0)] = 1;
for (const character of EXTENDED) SEPTETS[character.charCodeAt(0)] = 2;

/** What takes the placeholder of a character outside the alphabet. */
const SUBSTITUTE = '?';

/** How long a text of the alphabet is, in septets. */
export function countSeptets(text: string): number {
  let septets = 0;
  for (let at = 0; at < text.length; at += 1) septets += SEPTETS[text.charCodeAt(at)]!;
  return septets;
}

/** The first character outside the alphabet; null when there is none. */
export function findNonGsmCharacter(text: string): string | null {
  for (const character of text) if (isNonGsm(character)) return character;
  return null;
}

/** A text on one line, with a question mark for every character outside the alphabet. */
export function toGsmLine(text: string): string {
  if (findNonGsmCharacter(text) === null && !text.includes('\n')) return text;
  return [...text].map((character) =>
    (isNonGsm(character) || character === '\n' ? SUBSTITUTE : character)).join('');
}

/** The beginning of a text of the alphabet: as much as so many septets hold. */
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
 * Renders a text of at most 160 septets: a purpose for which there is no room is cut.
 *
 * @param template of characters of the alphabet, as `validateTemplate` has it
 * @param domain the site where the code is typed in; null: no last line
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

/** How many septets a text takes that is not cut, with its last line. */
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
 * Binds a code to the site that it is for: a browser offers it there and nowhere else (WICG,
 * Origin-bound one-time codes delivered via SMS, 2). It must be the last line.
 */
function originLine(domain: string, code: string): string {
  return `@${domain} #${code}`;
}
