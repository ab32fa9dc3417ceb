/**
 * The alphabet of text messages, and what a character of it costs (3GPP TS 23.038, 6.2.1). One
 * character outside it would halve what fits into a message.
 */

/** One message that is not split: 140 bytes (3GPP TS 23.040, 9.2.3.24). */
export const MESSAGE_MAX_SEPTETS = 160;

const BASIC = '@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?'
  + '¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';

/** Each is sent behind an escape (6.2.1.1). */
const EXTENDED = '^{}\\[~]|€';

/** By UTF-16 code unit: no character of the alphabet takes two. 0: outside it. */
const SEPTETS = new Uint8Array(0x10000);
for (const character of BASIC) SEPTETS[character.charCodeAt(0)] = 1;
for (const character of EXTENDED) SEPTETS[character.charCodeAt(0)] = 2;

/** What takes the place of a character outside the alphabet. */
const SUBSTITUTE = '?';

/** How long a text of the alphabet is, in septets. */
export function countSeptets(text: string): number {
  let septets = 0;
  for (let at = 0; at < text.length; at += 1) septets += SEPTETS[text.charCodeAt(at)]!;
  return septets;
}

/** The first character outside the alphabet; null when there is none. */
export function findOutsider(text: string): string | null {
  for (const character of text) if (isOutside(character)) return character;
  return null;
}

/** A text on one line, with a question mark for every character outside the alphabet. */
export function toGsmLine(text: string): string {
  if (findOutsider(text) === null && !text.includes('\n')) return text;
  return [...text].map((character) =>
    (isOutside(character) || character === '\n' ? SUBSTITUTE : character)).join('');
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

function isOutside(character: string): boolean {
  return SEPTETS[character.charCodeAt(0)] === 0;
}
