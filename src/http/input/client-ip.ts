/** What limits count of a client's address (docs/api.md, "Client address"); trusted proxies. */
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import type { ClientAddress } from '../../otp/outcomes.ts';
import type { FieldError } from '../response.ts';

/** Entries of X-Forwarded-For that are read, from the right; no real chain has more hops. */
const FORWARDED_MAX_ENTRIES = 20;

/**
 * The address of the socket or, behind trusted proxies, the right-most entry of X-Forwarded-For
 * that is not a trusted proxy. Empty entries are passed over (RFC 9110, 5.6.1.2); a malformed entry
 * ends the search at the proxy that reported it.
 *
 * @param remoteAddress undefined when the client has disconnected
 * @param forwardedFor all lines joined by commas, in order; '' when absent
 * @returns null when the client has disconnected
 */
export function forwardedClientIp(
  remoteAddress: string | undefined,
  forwardedFor: string,
  proxies: TrustedProxies,
): ClientAddress | null {
  let address = remoteAddress === undefined ? null : parseAddress(remoteAddress);
  if (address === null) return null;
  if (proxies.isEmpty) return toClientAddress(address);
  let end = endOfEntry(forwardedFor, forwardedFor.length);
  for (let hops = 0; hops < FORWARDED_MAX_ENTRIES && end > 0; hops += 1) {
    if (!proxies.has(address)) break;
    const comma = forwardedFor.lastIndexOf(',', end - 1);
    const entry = forwardedFor.slice(comma + 1, end).trim();
    const hop = parseAddress(entry) ?? parseAddress(withoutPort(entry));
    if (hop === null) break;
    address = hop;
    end = endOfEntry(forwardedFor, comma);
  }
  return toClientAddress(address);
}

/** The end of the last entry before `end` that is not empty; at most 0 when there is none. */
function endOfEntry(list: string, end: number): number {
  let at = end;
  while (at > 0 && EMPTY_ENTRIES.includes(list[at - 1] as string)) at -= 1;
  return at;
}

/** Commas and optional whitespace (RFC 9110, 5.6.3). */
const EMPTY_ENTRIES = ', \t';

/** The length of the longest IPv6 address, with a dotted quad. */
const ADDRESS_MAX_CHARACTERS = 45;

const IP_FIELD = 'X-Client-IP';
const MALFORMED_IP: FieldError = Object.freeze({
  field: IP_FIELD, message: 'must be one IPv4 or IPv6 address',
});
const REPEATED_IP: FieldError = Object.freeze({ field: IP_FIELD, message: 'must be sent once' });

/** The client that an API client names in its X-Client-IP lines; null when it names none. */
export function clientIpFromHeader(
  values: readonly string[],
): ClientAddress | FieldError | null {
  const [value] = values;
  if (value === undefined) return null;
  if (values.length > 1) return REPEATED_IP;
  // A zone has a meaning on the machine of the API client only (RFC 4007, 6).
  if (value.length > ADDRESS_MAX_CHARACTERS || value.includes('%')) return MALFORMED_IP;
  const address = parseAddress(value);
  return address === null ? MALFORMED_IP : toClientAddress(address);
}

/** Removes the port from `1.2.3.4:80` and `[2001:db8::1]:80`; returns any other text as it is. */
function withoutPort(entry: string): string {
  const bracketed = /^\[([^\]]*)\](?::[0-9]{1,5})?$/.exec(entry);
  if (bracketed !== null) return bracketed[1] as string;
  const ported = /^([0-9.]+):[0-9]{1,5}$/.exec(entry);
  return ported === null ? entry : ported[1] as string;
}

export type TrustedProxies = Readonly<{
  /** True when no proxy is trusted, so that the header need not be read. */
  isEmpty: boolean;
  /** Expects an address as `parseAddress` returns it. */
  has: (address: string) => boolean;
}>;

/** Cached answers: proxies are few, and each always has the same address. */
const CACHE_MAX_ADDRESSES = 1024;

type Network = Readonly<{ address: string; prefix: number; family: 'ipv4' | 'ipv6' }>;

/**
 * Parses addresses and CIDR blocks separated by commas or spaces. An entry that trusts every
 * address is an error, because every client could then forge its address.
 */
export function parseTrustedProxies(text: string): { proxies: TrustedProxies; errors: string[] } {
  const list = new BlockList();
  const errors: string[] = [];
  for (const entry of entriesOf(text)) {
    const network = parseNetwork(entry);
    if (network === null) errors.push(`"${entry}" is not an address or CIDR block`);
    else if (network.prefix === 0) errors.push(`"${entry}" trusts every address`);
    else list.addSubnet(network.address, network.prefix, network.family);
  }
  const proxies = Object.freeze({ isEmpty: list.rules.length === 0, has: cacheChecks(list) });
  return { proxies, errors };
}

/** Caches the answers of a list, because BlockList allocates an object for every check. */
function cacheChecks(list: BlockList): (address: string) => boolean {
  const cache = new Map<string, boolean>();
  return (address) => {
    const known = cache.get(address);
    if (known !== undefined) return known;
    const isTrusted = list.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
    // Clients can send any address, so the cache needs a bound.
    if (cache.size === CACHE_MAX_ADDRESSES) cache.clear();
    cache.set(address, isTrusted);
    return isTrusted;
  };
}

/** Parses one entry; a block of IPv4-mapped addresses becomes its IPv4 block. */
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
 * The canonical text of an IP address, without a zone: IPv4 also for IPv4-mapped IPv6, else eight
 * lower-case groups without leading zeros. Null when the text is not an address.
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
 * What an address counts as. IPv4 counts by itself, even inside an IPv6 address of a transition
 * technology, so that neither a client has many addresses nor one address many clients.
 * Other IPv6 counts by its /64, which usually belongs to one client, and by its /48, the most that
 * one site usually gets (RFC 6177, 2).
 *
 * @param address as `parseAddress` returns it. Trusted proxies are matched before, by their real
 *   addresses: anybody can have a 6to4 address that contains the IPv4 address of a proxy.
 */
export function toClientAddress(address: string): ClientAddress {
  if (!address.includes(':')) return { clientIp: address, clientNet48: null };
  const groups = address.split(':');
  const clientIp = embeddedIPv4(groups.map((group) => Number.parseInt(group, 16)));
  return clientIp !== null ? { clientIp, clientNet48: null }
    : { clientIp: networkOf(groups, 4), clientNet48: networkOf(groups, 3) };
}

/** The first groups of an address as a network in the form of RFC 5952: `2001:db8::/64`. */
function networkOf(groups: readonly string[], length: number): string {
  const network = groups.slice(0, length);
  // The rest is zero, so `::` always replaces the zeros at the end.
  while (network.at(-1) === '0') network.pop();
  return `${network.join(':')}::/${16 * length}`;
}

/** The IPv4 address of the client in 6to4, Teredo and NAT64 addresses; null in all others. */
function embeddedIPv4(groups: readonly number[]): string | null {
  const [a, b, c = 0] = groups;
  const [high = 0, low = 0] = groups.slice(6);
  // 2002::/16 (RFC 3056, 2).
  if (a === 0x2002) return toIPv4(b as number, c);
  // 2001::/32 holds the address inverted (RFC 4380, 4).
  if (a === 0x2001 && b === 0) return toIPv4(high ^ 0xffff, low ^ 0xffff);
  // 64:ff9b::/96 (RFC 6052, 2.1).
  const isNat64 = a === 0x64 && b === 0xff9b && groups.slice(2, 6).every((group) => group === 0);
  return isNat64 ? toIPv4(high, low) : null;
}

/** The eight numbers of a valid IPv6 address. */
function parseGroups(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const before = parseHalf(head);
  if (tail === undefined) return before;
  const after = parseHalf(tail);
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after];
}

/** The numbers on one side of `::`; a trailing dotted quad is two of them. */
function parseHalf(part: string): number[] {
  if (part === '') return [];
  return part.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

/** The IPv4 address in `::ffff:0:0/96` (RFC 4291, 2.5.5.2), or null. */
function mappedIPv4(groups: readonly number[]): string | null {
  if (groups[5] !== 0xffff || groups.slice(0, 5).some((group) => group !== 0)) return null;
  return toIPv4(groups[6] as number, groups[7] as number);
}

function toIPv4(high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** The entries of a list that is separated by commas or spaces. */
export function entriesOf(text: string): string[] {
  return text.split(/[\s,]+/).filter((entry) => entry !== '');
}
