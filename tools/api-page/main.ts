/**
 * `npm run api-page`: writes docs/openapi.html, or the file that is named, from openapi.json. The
 * page needs no script and no network. Two packages do the work: one writes the description as
 * Markdown, the other turns Markdown into HTML. They have 100 MB and are used rarely, so that they
 * are installed for this run only.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** What is used of the packages. */
type Writer = { createMarkdownFromOpenApi: (description: object) => Promise<string> };
type Token = { type: string; raw: string; items?: { text: string }[] };
type Markdown = { marked: { lexer(text: string): Token[]; parse(text: string): string } };

type Description = Readonly<{
  openapi: string;
  info: { title: string };
  paths: object;
  'x-other-requests': { description: string; responses: object };
}>;

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SOURCE = join(HERE, '../../openapi.json');
const TARGET = join(HERE, '../../docs/openapi.html');

/** The version of OpenAPI that the Markdown is written in, with methods of any name. */
const WRITTEN_VERSION = '3.2.0';

const OTHERS = 'Any other request.';

/** Where the packages are installed, in the versions of the lock file. */
class Packages {
  readonly #folder = mkdtempSync(join(tmpdir(), 'otpd-api-page-'));

  install(): void {
    for (const name of ['package.json', 'package-lock.json']) {
      copyFileSync(join(HERE, name), join(this.#folder, name));
    }
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
      { cwd: this.#folder, stdio: ['ignore', 'ignore', 'inherit'] });
  }

  async load<T>(name: string): Promise<T> {
    const folder = join(this.#folder, 'node_modules', name);
    const { main } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as
      { main: string };
    return await import(pathToFileURL(join(folder, main)).href) as T;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** The responses to other requests stand on the page as one more operation. */
async function writeMarkdown(
  { createMarkdownFromOpenApi }: Writer,
  description: Description,
): Promise<string> {
  const { 'x-other-requests': others, openapi, paths } = description;
  const markdown = await createMarkdownFromOpenApi({
    ...description,
    openapi: WRITTEN_VERSION,
    paths: { ...paths, '*': { additionalOperations: { ANY: { summary: OTHERS, ...others } } } },
  });
  return replaceOnce(markdown, WRITTEN_VERSION, openapi);
}

/** Throws when the text does not have the part exactly once. */
function replaceOnce(text: string, part: string, by: string): string {
  const [before = '', after, ...more] = text.split(part);
  if (after === undefined || more.length > 0) throw new Error(`not there exactly once: ${part}`);
  return `${before}${by}${after}`;
}

/** The headers of all responses: each is described once, under the link that the responses have. */
class Headers {
  /** The anchor by the description. */
  readonly #anchors = new Map<string, string>();

  /** The line that stands for the list of a response. */
  lineOf(items: readonly { text: string }[]): string {
    return `**Headers:** ${items.map(({ text }) => this.#linkTo(text)).join(', ')}\n\n`;
  }

  contents(): string {
    return [...this.#anchors].map(([text, anchor]) => `- [${nameIn(text)}](#${anchor})\n`).join('');
  }

  descriptions(): string {
    return [...this.#anchors].map(([text, anchor]) => {
      const [title = '', ...rest] = text.split('\n');
      return `<a id="${anchor}"></a>\n\n### ${title.replaceAll('**', '')}\n${rest.join('\n')}\n\n`;
    }).join('');
  }

  #linkTo(text: string): string {
    const name = nameIn(text);
    let anchor = this.#anchors.get(text);
    if (anchor === undefined) {
      const known = [...this.#anchors.keys()].filter((other) => nameIn(other) === name).length;
      anchor = `header-${name.toLowerCase()}${known === 0 ? '' : `-${known + 1}`}`;
      this.#anchors.set(text, anchor);
    }
    const isRequired = text.split('\n', 1)[0]!.endsWith('(required)');
    return `[\`${name}\`](#${anchor})${isRequired ? ' (required)' : ''}`;
  }
}

function nameIn(text: string): string {
  const [, name] = /^\*\*`([\w-]+)`\*\*/.exec(text) ?? [];
  if (name === undefined) throw new Error(`this is not a header: ${text.slice(0, 80)}`);
  return name;
}

/** The list of headers follows its title. */
function collectHeaders(tokens: readonly Token[], headers: Headers): string {
  let isTitled = false;
  let text = '';
  for (const { type, raw, items } of tokens) {
    const isTitle = raw.trim() === '**Headers:**';
    if (isTitled && items !== undefined) text += headers.lineOf(items);
    else if (!isTitle) text += raw;
    isTitled = isTitle || (isTitled && type === 'space');
  }
  return text;
}

async function writePage(target: string, packages: Packages): Promise<void> {
  const source = readFileSync(SOURCE);
  const description = JSON.parse(source.toString()) as Description;
  const writer = await packages.load<Writer>('@scalar/openapi-to-markdown');
  const { marked } = await packages.load<Markdown>('marked');
  const headers = new Headers();
  const text = collectHeaders(marked.lexer(await writeMarkdown(writer, description)), headers);
  const [introduction = '', rest = ''] = text.split('## Contents\n');
  const [contents = '', ...operations] = rest.split(/(?=<a id=)/);
  const pieces = {
    digest: createHash('sha256').update(source).digest('hex'),
    title: `${description.info.title}: the API`,
    introduction: marked.parse(introduction),
    contents: marked.parse(`## Contents\n${contents}**Headers**\n\n${headers.contents()}`),
    operations: marked.parse(
      `${operations.join('')}\n\n## Headers\n\n${headers.descriptions()}`),
  };
  const page = Object.entries(pieces).reduce(
    (frame, [name, piece]) => replaceOnce(frame, `{{${name}}}`, piece),
    readFileSync(join(HERE, 'frame.html'), 'utf8'));
  writeFileSync(target, page);
}

const packages = new Packages();
try {
  packages.install();
  await writePage(process.argv[2] ?? TARGET, packages);
} finally {
  packages.remove();
}
