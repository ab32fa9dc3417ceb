/** One text per counted client: the canonical form of addresses (contract, "Client address"). */
import { isIPv4, isIPv6 } from 'node:net';

/**
 * Reads an IP address.
 *
 * @param text IPv4 or IPv6, with or without a zone id
 * @returns IPv4 text for IPv4 and IPv4-mapped IPv6, else eight groups in lower case without
 *   leading zeros; null when it is no address
 */
export function parseAddress(text: string): string | null {
  if (isIPv4(text)) return text;
  const zone = text.indexOf('%');
  const plain = zone === -1 ? text : text.slice(0, zone);
  if (!isIPv6(plain)) return null;
  const groups = groupsOf(plain);
  return mappedIPv4(groups) ?? groups.map((group) => group.toString(16)).join(':');
}

/**
 * What an address is counted as: IPv4 by itself, IPv6 by its /64 in the text form of RFC 5952,
 * such as `2001:db8::/64`.
 *
 * @param address an address as `parseAddress` gives it
 */
export function countedAs(address: string): string {
  if (!address.includes(':')) return address;
  const network = address.split(':').slice(0, 4);
  // The host half is zero, so the run that `::` replaces is always the one at the end.
  while (network.at(-1) === '0') network.pop();
  return `${network.join(':')}::/64`;
}

/** The eight numbers of a valid IPv6 text. */
function groupsOf(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const before = numbersOf(head);
  if (tail === undefined) return before;
  const after = numbersOf(tail);
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after];
}

/** The numbers of a part without `::`; a trailing dotted quad is two of them. */
function numbersOf(part: string): number[] {
  if (part === '') return [];
  return part.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

/** The IPv4 address inside `::ffff:0:0/96` (RFC 4291, 2.5.5.2), or null. */
function mappedIPv4(groups: readonly number[]): string | null {
  if (groups[5] !== 0xffff || groups.slice(0, 5).some((group) => group !== 0)) return null;
  const [high = 0, low = 0] = groups.slice(6);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}
