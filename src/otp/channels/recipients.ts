/**
 * What a message can be sent to: the syntax of phone numbers, mail addresses and domain names, and
 * the normal form of a recipient, by which limits count.
 */
import { domainToASCII } from 'node:url';

/** The format is E.164 with its plus sign. */
export const PHONE_NUMBER = /^\+[1-9]\d{6,14}$/;

/** A path has 256 characters with its angle brackets (RFC 5321, 4.5.3.1.3). */
const ADDRESS_MAX_CHARACTERS = 254;
const LOCAL_PART_MAX_CHARACTERS = 64;

/** One atom of a dot-atom (RFC 5322, 3.2.3): no quotes, spaces, commas or brackets. */
const ATOM = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+$/;

/**
 * One address `local@domain`, without a display name, comment or quotes. The local part is ASCII,
 * because few servers take others (RFC 6531); the domain may be internationalized.
 *
 * @returns the address with its domain in ASCII; null when the text is no such address
 */
export function toMailAddress(text: string): string | null {
  const at = text.lastIndexOf('@');
  const domain = at < 0 || at > LOCAL_PART_MAX_CHARACTERS ? null : toDomainName(text.slice(at + 1));
  if (domain === null || at + 1 + domain.length > ADDRESS_MAX_CHARACTERS) return null;
  const local = text.slice(0, at);
  return local.split('.').every((atom) => ATOM.test(atom)) ? `${local}@${domain}` : null;
}

/** Whether a message can be sent to a text: one phone number or one mail address. */
export function isAddress(text: string): boolean {
  return PHONE_NUMBER.test(text) || toMailAddress(text) !== null;
}

export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1);
}

const DOMAIN_MAX_CHARACTERS = 253;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/**
 * A domain name of at least two labels, without a final dot.
 *
 * @returns the name in ASCII (`xn--…` for other letters); null when the text is no such name
 */
export function toDomainName(text: string): string | null {
  const name = toAscii(text);
  if (name.length > DOMAIN_MAX_CHARACTERS) return null;
  const labels = name.split('.');
  const isName = labels.length > 1 && labels.every((label) => LABEL.test(label))
    && !/^\d+$/.test(labels.at(-1)!);
  return isName ? name : null;
}

/** domainToASCII reads a host of a URL: it decodes %, and stops at these characters. */
const NOT_OF_A_NAME = /[^A-Za-z0-9._\-\u0080-\uffff]/;

/** A name of hosts in ASCII (UTS 46); '' when it has no such form. ASCII stays as it is. */
export function toAscii(name: string): string {
  if (/^[\x00-\x7f]*$/.test(name)) return name;
  return NOT_OF_A_NAME.test(name) ? '' : domainToASCII(name);
}

/** What most users are: no recipient, or a mail address in ASCII that is its own normal form. */
const IS_UNCOUNTED = new RegExp('^(?:[^@+\\u0080-\\uffff]*|[^@+.A-Z\\u0080-\\uffff]+@gmail\\.com'
  + '|[^@+A-Z\\u0080-\\uffff]+@(?!g(?:oogle)?mail\\.com$)[a-z0-9.-]*[a-z0-9-])$');

/**
 * The recipient by which recipient_limit counts (docs/api.md, "Recipient"). A user_id that is its
 * own normal form has only the limit of the user, so that nobody can use it up by other spellings.
 *
 * @returns null when nothing is counted
 */
export function countedRecipient(userId: string): string | null {
  if (IS_UNCOUNTED.test(userId)) return null;
  const normal = normalizeRecipient(userId);
  return normal === userId ? null : normal;
}

/**
 * The one spelling of a mail address or phone number. It may fold recipients that differ, which is
 * harmless, because it is the subject of limits only: a message goes where it was asked to go.
 *
 * @returns null for any other text
 */
export function normalizeRecipient(text: string): string | null {
  // Lower case can undo the composition of letters.
  const folded = text.normalize('NFKC').toLowerCase().normalize('NFKC');
  return folded.includes('@') ? normalizeAddress(folded) : normalizePhone(folded);
}

/** A local part, in quotes or not; letters of all scripts (RFC 6531, 3.3), and dots anywhere. */
const LOCAL_PART = /^(?:[^\s\p{C}"(),:;<>@[\\\]]+|"[^\p{C}@]+")$/u;

/** A host that is no domain name: `localhost`, `mail_1.internal`, `[192.0.2.1]`. */
const OTHER_HOST = /^(?:[\w-]+(?:\.[\w-]+)*|\[[\w.:]+\])$/;

/** Includes addresses that otpd sends no e-mail to: the receiver of a webhook may. */
function normalizeAddress(text: string): string | null {
  const at = text.lastIndexOf('@');
  const local = text.slice(0, at);
  const host = toAscii(text.slice(at + 1)).replace(/\.$/, '');
  const name = toDomainName(host) ?? (OTHER_HOST.test(host) ? host : null);
  if (name === null || !LOCAL_PART.test(local)) return null;
  const domain = name === 'googlemail.com' ? 'gmail.com' : name;
  const tag = local.indexOf('+', 1);
  const untagged = tag === -1 ? local : local.slice(0, tag);
  const mailbox = domain === 'gmail.com' ? untagged.replaceAll('.', '') : untagged;
  return `${mailbox}@${domain}`;
}

/** Country codes of one digit, of two, and the beginnings of those of three (ITU-T E.164). */
const ONE_DIGIT = '[17]';
const TWO_DIGITS = '2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]';
const THREE_DIGITS = '(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[0357-9]|9[679])\\d';

/**
 * Zeros after the country code are the prefix for calls within a country. In a few countries, such
 * as Italy, a zero belongs to the number.
 */
const TRUNK_ZEROS = new RegExp(`^(\\+(?:${ONE_DIGIT}|${TWO_DIGITS}|${THREE_DIGITS}))0+`);

function normalizePhone(text: string): string | null {
  const phone = text.replace(TRUNK_ZEROS, '$1');
  if (PHONE_NUMBER.test(phone)) return phone;
  // Without its zeros it is too short to be a number, but a message may be sent to it as it is.
  return PHONE_NUMBER.test(text) ? text : null;
}

/**
 * Returns `+` and the first digits of a phone number, or the domain of a mail address, both of the
 * normal form of the recipient; null for any other address.
 *
 * @param digits how many digits of a phone number name its destination
 */
export function destinationOf(address: string, digits: number): string | null {
  const recipient = normalizeRecipient(address);
  if (recipient === null) return null;
  return recipient.includes('@') ? toDomainName(domainOf(recipient))
    : recipient.slice(0, 1 + digits);
}
