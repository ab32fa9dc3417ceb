/** The two formats of apt's lists of package sources (sources.list(5)): one-line and deb822. */
/** One place that packages come from, as apt's lists name it. */
export type AptSource = Readonly<{
  uri: string;
  suite: string;
  components: readonly string[];
  /** The keyring that the entry names, or the empty text. */
  signedBy: string;
}>;

/**
 * Reads a list in the one-line format. Commented and `deb-src` lines are left out.
 *
 * @param text the content of a `.list` file
 */
export function parseOneLineSources(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const found = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!found) return [];
    const [, options = '', uri = '', suite = '', components = ''] = found;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1] ?? '';
    return [{ uri, suite, components: words(components), signedBy }];
  });
}

/**
 * Reads a list in the deb822 format: one source for each pair of address and suite.
 *
 * @param text the content of a `.sources` file
 */
export function parseDeb822Sources(text: string): AptSource[] {
  const withoutComments = text.split('\n').filter((line) => !line.startsWith('#')).join('\n');
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const field = deb822Fields(stanza);
    if (!words(field('types')).includes('deb')) return [];
    if (/^(no|false|without|off|disable|0)$/i.test(field('enabled'))) return [];
    const components = words(field('components'));
    return words(field('uris')).flatMap((uri) =>
      words(field('suites')).map((suite) => ({
        uri, suite, components, signedBy: field('signed-by'),
      })));
  });
}

/** Looks a field up by its name in lower case; lines that begin with a space continue it. */
function deb822Fields(stanza: string): (name: string) => string {
  const unfolded = stanza.replace(/\n[ \t]+/g, ' ');
  const pairs = unfolded.split('\n').map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  const fields = new Map(pairs);
  return (name) => fields.get(name) ?? '';
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
