/** Parses a received e-mail: its header and its decoded parts (RFC 2045). */

export type Part = Readonly<{
  header: ReadonlyMap<string, string>;
  text: string;
  /** The part as it was sent, which may have parts itself. */
  raw: string;
}>;

/** The header fields by name in lower case, and the decoded parts. */
export function readMessage(raw: string): { header: ReadonlyMap<string, string>; parts: Part[] } {
  const { header, body } = splitEntity(raw);
  const boundary = /boundary="?([^";]+)/.exec(header.get('content-type') ?? '')?.[1];
  if (boundary === undefined) {
    return { header, parts: [{ header, text: decode(header, body), raw }] };
  }
  const pieces = body.split(`--${boundary}`).slice(1, -1);
  const parts = pieces.map((piece) => {
    const own = piece.replace(/^\r\n/, '');
    const part = splitEntity(own);
    const text = decode(part.header, part.body.replace(/\r\n$/, ''));
    return { header: part.header, text, raw: own };
  });
  return { header, parts };
}

/** Decodes the encoded words of a header (RFC 2047). */
export function readWords(text: string): string {
  return text.replace(/\?=\s+=\?/g, '?==?').replace(/=\?utf-8\?([QB])\?([^?]*)\?=/gi,
    (_, kind: string, word: string) => (kind.toUpperCase() === 'B'
      ? Buffer.from(word, 'base64').toString('utf8') : unquote(word.replaceAll('_', ' '))));
}

function splitEntity(text: string): { header: ReadonlyMap<string, string>; body: string } {
  const end = text.indexOf('\r\n\r\n');
  const lines = text.slice(0, end).replace(/\r\n[ \t]+/g, ' ').split('\r\n');
  const header = new Map(lines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { header, body: text.slice(end + 4) };
}

function decode(header: ReadonlyMap<string, string>, body: string): string {
  const encoding = header.get('content-transfer-encoding')?.toLowerCase() ?? '7bit';
  const text = encoding === 'base64' ? Buffer.from(body, 'base64').toString('utf8')
    : encoding === 'quoted-printable' ? unquote(body.replace(/=\r\n/g, '')) : body;
  return text.replaceAll('\r\n', '\n');
}

function unquote(text: string): string {
  const bytes = text.replace(/=([0-9A-F]{2})/gi,
    (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
