/** The proxies whose X-Forwarded-For is believed: a list of networks, read once at the start. */
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { parseAddress } from './address.ts';

/** The set of trusted peers. */
export type TrustedProxies = Readonly<{
  /** True when nothing is trusted and the header need not be looked at. */
  empty: boolean;
  /** Whether an address, as `parseAddress` gives it, is a trusted proxy. */
  has: (address: string) => boolean;
}>;

/** Verdicts that are kept: proxies are few, and each asks with the same address all the time. */
const KEPT_MAX_ADDRESSES = 1024;

type Network = Readonly<{ address: string; prefix: number; family: 'ipv4' | 'ipv6' }>;

/**
 * Reads the list of trusted networks.
 *
 * @param text addresses and CIDR blocks, separated by commas or spaces; '' trusts nobody
 * @returns the set, and one message for each entry that is at fault, for the configuration to
 *   report; an entry that trusts every address is a fault, for anybody could then forge one
 */
export function parseTrustedProxies(text: string): { proxies: TrustedProxies; faults: string[] } {
  const list = new BlockList();
  const faults: string[] = [];
  for (const entry of text.split(/[\s,]+/).filter((part) => part !== '')) {
    const network = parseNetwork(entry);
    if (network === null) faults.push(`"${entry}" is not an address or CIDR block`);
    else if (network.prefix === 0) faults.push(`"${entry}" trusts every address`);
    else list.addSubnet(network.address, network.prefix, network.family);
  }
  const proxies = Object.freeze({ empty: list.rules.length === 0, has: verdictsOf(list) });
  return { proxies, faults };
}

/** What a list says, kept because BlockList makes an object of its own for every question. */
function verdictsOf(list: BlockList): (address: string) => boolean {
  const kept = new Map<string, boolean>();
  return (address) => {
    const known = kept.get(address);
    if (known !== undefined) return known;
    const verdict = list.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
    // Clients may name any address, so there must be a bound.
    if (kept.size === KEPT_MAX_ADDRESSES) kept.clear();
    kept.set(address, verdict);
    return verdict;
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
