/** Whom a request is counted against (contract, "Client address"). */
import { countedAs, parseAddress } from './address.ts';
import type { FieldFault } from './answer.ts';
import type { TrustedProxies } from './trusted-proxies.ts';

/** Entries of X-Forwarded-For that are looked at, from the right: more hops are not real. */
const FORWARDED_MAX_ENTRIES = 20;

/**
 * The counted client address: the socket's, unless that is a trusted proxy; then the right-most
 * entry of X-Forwarded-For that is not one. Junk ends the walk at the last trusted hop, whose
 * word it was.
 *
 * @param peer the address of the socket, undefined when the client is gone
 * @param forwardedFor all X-Forwarded-For lines joined by commas, in order; '' when absent
 * @returns IPv4 text or the /64 of an IPv6 address; null when the peer is unknown
 */
export function clientAddress(
  peer: string | undefined,
  forwardedFor: string,
  proxies: TrustedProxies,
): string | null {
  let address = peer === undefined ? null : parseAddress(peer);
  if (address === null) return null;
  if (proxies.empty) return countedAs(address);
  let end = forwardedFor.length;
  for (let seen = 0; seen < FORWARDED_MAX_ENTRIES && end > 0; seen += 1) {
    if (!proxies.has(address)) break;
    const comma = forwardedFor.lastIndexOf(',', end - 1);
    const entry = forwardedFor.slice(comma + 1, end).trim();
    const hop = parseAddress(entry) ?? parseAddress(withoutPort(entry));
    if (hop === null) break;
    address = hop;
    end = comma;
  }
  return countedAs(address);
}

/** The longest text of an address: IPv6 with a dotted quad. */
const ADDRESS_MAX_CHARACTERS = 45;

const FIELD = 'X-Client-IP';
const MALFORMED: FieldFault = Object.freeze({
  field: FIELD, message: 'must be one IPv4 or IPv6 address',
});
const REPEATED: FieldFault = Object.freeze({ field: FIELD, message: 'must be sent once' });

/**
 * The counted client address that a caller names, who speaks for many clients.
 *
 * @param values the values of all X-Client-IP lines of the header section
 * @returns as clientAddress; null when the caller names none; or what is wrong with it
 */
export function namedClientAddress(values: readonly string[]): string | FieldFault | null {
  const [value] = values;
  if (value === undefined) return null;
  if (values.length > 1) return REPEATED;
  // A zone has a meaning on the caller's machine only (RFC 4007, 6).
  if (value.length > ADDRESS_MAX_CHARACTERS || value.includes('%')) return MALFORMED;
  const address = parseAddress(value);
  return address === null ? MALFORMED : countedAs(address);
}

/** `1.2.3.4:80` and `[2001:db8::1]:80` name a port beside the address; anything else is itself. */
function withoutPort(entry: string): string {
  const bracketed = /^\[([^\]]*)\](?::[0-9]{1,5})?$/.exec(entry);
  if (bracketed !== null) return bracketed[1] as string;
  const ported = /^([0-9.]+):[0-9]{1,5}$/.exec(entry);
  return ported === null ? entry : ported[1] as string;
}
