/**
 * The length of text messages. A text in the GSM-7 alphabet (3GPP TS 23.038, 6.2.1) may have 160
 * characters in one message; with a single character outside the alphabet it may have 70 (UCS-2).
 */
import type { Template, TemplateValues } from './template.ts';

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
