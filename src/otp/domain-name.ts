/** The names of hosts on the internet (RFC 1123, 2.1; RFC 1035, 2.3.4). */

const NAME_MAX_CHARACTERS = 253;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/**
 * Whether a text is a domain name of two labels or more, in ASCII (`xn--…` for other letters): no
 * address, no scheme, no port, no dot at the end.
 */
export function isDomainName(text: string): boolean {
  if (text.length > NAME_MAX_CHARACTERS) return false;
  const labels = text.split('.');
  return labels.length > 1 && labels.every((label) => LABEL.test(label))
    && !/^\d+$/.test(labels.at(-1)!);
}
