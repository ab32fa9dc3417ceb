/** One plain e-mail address, as it goes into a command and a header: nothing is left to parse. */
import { isDomainName } from '../domain-name.ts';

/** A path of 256 without its angle brackets (RFC 5321, 4.5.3.1.3). */
const ADDRESS_MAX_CHARACTERS = 254;
const LOCAL_PART_MAX_CHARACTERS = 64;

/** Of atoms between dots: no quotes, spaces, commas, brackets (RFC 5322, 3.2.3). */
const ATOM = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+$/;

/**
 * Whether a text is one address `local@domain` in ASCII, without a name, a comment or quotes, at a
 * domain of two labels or more.
 */
export function isPlainAddress(text: string): boolean {
  const at = text.lastIndexOf('@');
  if (at > LOCAL_PART_MAX_CHARACTERS || text.length > ADDRESS_MAX_CHARACTERS) return false;
  const atoms = text.slice(0, Math.max(at, 0)).split('.');
  return atoms.every((atom) => ATOM.test(atom)) && isDomainName(text.slice(at + 1));
}

/** The domain of a plain address. */
export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1);
}
