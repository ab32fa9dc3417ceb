/** The addresses that messages may be posted to: https, or http where nobody can listen in. */

/** The URL parser makes dotted quads of 127.0.0.0/8; any other name can be anywhere. */
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/**
 * Reads the address of a provider.
 *
 * @param allowHttp whether http is allowed for other hosts than this machine
 * @returns the address, or what is wrong with it, never quoting it: it may hold a token
 */
export function parseEndpointUrl(
  text: string,
  allowHttp: boolean,
): { url: URL } | { fault: string } {
  // The URL parser would repair what it is given: too few slashes, or too many, and blanks.
  if (!/^https?:\/\/[^/\\\s\p{Cc}][^\s\p{Cc}]*$/iu.test(text) || !URL.canParse(text)) {
    return { fault: 'must be an address such as https://host/path' };
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    return { fault: 'must not hold a user name or a password' };
  }
  if (text.includes('#')) return { fault: 'must not have a fragment' };
  if (url.protocol === 'http:' && !allowHttp && !LOOPBACK_HOST.test(url.hostname)) {
    return { fault: 'must be https, for its host is not this machine' };
  }
  return { url };
}
