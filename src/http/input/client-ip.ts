/** Whom a request is counted against (contract, "Client address"). */
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import type { FieldError } from '../response.ts';

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
export function forwardedClientIp(
  remoteAddress: string | undefined,
  forwardedFor: string,
  proxies: TrustedProxies,
): string | null {
  let address = remoteAddress === undefined ? null : parseAddress(remoteAddress);
  if (address === null) return null;
  if (proxies.isEmpty) return toLimitedIp(address);
  let end = forwardedFor.length;
  for (let hops = 0; hops < FORWARDED_MAX_ENTRIES && end > 0; hops += 1) {
    if (!proxies.has(address)) break;
    const comma = forwardedFor.lastIndexOf(',', end - 1);
    const entry = forwardedFor.slice(comma + 1, end).trim();
    const hop = parseAddress(entry) ?? parseAddress(withoutPort(entry));
    if (hop === null) break;
    address = hop;
    end = comma;
  }
  return toLimitedIp(address);
}

/** The longest text of an address: IPv6 with a dotted quad. */
const ADDRESS_MAX_CHARACTERS = 45;

const IP_FIELD = 'X-Client-IP';
const MALFORMED_IP: FieldError = Object.freeze({
  field: IP_FIELD, message: 'must be one IPv4 or IPv6 address',
});
const REPEATED_IP: FieldError = Object.freeze({ field: IP_FIELD, message: 'must be sent once' });

/**
 * The counted client address that a caller names, who speaks for many clients.
 *
 * @param values the values of all X-Client-IP lines of the header section
 * @returns as clientAddress; null when the caller names none; or what is wrong with it
 */
export function clientIpFromHeader(values: readonly string[]): string | FieldError | null {
  const [value] = values;
  if (value === undefined) return null;
  if (values.length > 1) return REPEATED_IP;
  // A zone has a meaning on the caller's machine only (RFC 4007, 6).
  if (value.length > ADDRESS_MAX_CHARACTERS || value.includes('%')) return MALFORMED_IP;
  const address = parseAddress(value);
  return address === null ? MALFORMED_IP : toLimitedIp(address);
}

/** `1.2.3.4:80` and `[2001:db8::1]:80` name a port beside the address; anything else is itself. */
function withoutPort(entry: string): string {
  const bracketed = /^\[([^\]]*)\](?::[0-9]{1,5})?$/.exec(entry);
  if (bracketed !== null) return bracketed[1] as string;
  const ported = /^([0-9.]+):[0-9]{1,5}$/.exec(entry);
  return ported === null ? entry : ported[1] as string;
}

/** The set of trusted peers. */
export type TrustedProxies = Readonly<{
  /** True when nothing is trusted and the header need not be looked at. */
  isEmpty: boolean;
  /** Whether an address, as `parseAddress` gives it, is a trusted proxy. */
  has: (address: string) => boolean;
}>;

/** Verdicts that are kept: proxies are few, and each asks with the same address all the time. */
const CACHE_MAX_ADDRESSES = 1024;

type Network = Readonly<{ address: string; prefix: number; family: 'ipv4' | 'ipv6' }>;

/**
 * Reads the list of trusted networks.
 *
 * @param text addresses and CIDR blocks, separated by commas or spaces; '' trusts nobody
 * @returns the set, and one message for each entry that is at fault, for the configuration to
 *   report; an entry that trusts every address is a fault, for anybody could then forge one
 */
export function parseTrustedProxies(text: string): { proxies: TrustedProxies; errors: string[] } {
  const list = new BlockList();
  const errors: string[] = [];
  for (const entry of text.split(/[\s,]+/).filter((part) => part !== '')) {
    const network = parseNetwork(entry);
    if (network === null) errors.push(`"${entry}" is not an address or CIDR block`);
    else if (network.prefix === 0) errors.push(`"${entry}" trusts every address`);
    else list.addSubnet(network.address, network.prefix, network.family);
  }
  const proxies = Object.freeze({ isEmpty: list.rules.length === 0, has: cacheChecks(list) });
  return { proxies, errors };
}

/** What a list says, cache because BlockList makes an object of its own for every question. */
function cacheChecks(list: BlockList): (address: string) => boolean {
  const cache = new Map<string, boolean>();
  return (address) => {
    const known = cache.get(address);
    if (known !== undefined) return known;
    const isTrusted = list.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
    // Clients may name any address, so there must be a bound.
    if (cache.size === CACHE_MAX_ADDRESSES) cache.clear();
    cache.set(address, isTrusted);
    return isTrusted;
  };
}

/** One entry; a block of IPv4-mapped addresses is the IPv4 block that it means. */
function parseNetwork(entry: string): Network | null {
  const [address = '', length, ...rest] = entry.split('/');
  const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : null;
  if (bits === null || address.includes('%') || rest.length > 0) return null;
  if (length !== undefined && !/^[0-9]{1,3}$/.test(length)) return null;
  const prefix = length === undefined ? bits : Number(length);
  if (prefix > bits) return null;
  const canonical = parseAddress(address) as string;
  if (canonical.includes(':')) return { address: canonical, prefix, family: 'ipv6' };
  if (bits === 32) return { address: canonical, prefix, family: 'ipv4' };
  if (prefix < 96) return { address, prefix, family: 'ipv6' };
  return { address: canonical, prefix: prefix - 96, family: 'ipv4' };
}

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
  const groups = parseGroups(plain);
  return mappedIPv4(groups) ?? groups.map((group) => group.toString(16)).join(':');
}

/**
 * What an address is counted as: IPv4 by itself, IPv6 by its /64 in the text form of RFC 5952,
 * such as `2001:db8::/64`.
 *
 * @param address an address as `parseAddress` gives it
 */
export function toLimitedIp(address: string): string {
  if (!address.includes(':')) return address;
  const network = address.split(':').slice(0, 4);
  // The host half is zero, so the run that `::` replaces is always the one at the end.
  while (network.at(-1) === '0') network.pop();
  return `${network.join(':')}::/64`;
}

/** The eight numbers of a valid IPv6 text. */
function parseGroups(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const before = parseHalf(head);
  if (tail === undefined) return before;
  const after = parseHalf(tail);
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after];
}

/** The numbers of a part without `::`; a trailing dotted quad is two of them. */
function parseHalf(part: string): number[] {
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
