/** The documentation as tests read it: headings, links, code, and table rows. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './program.ts';

export type Page = Readonly<{
  /** Relative to the repository. */
  path: string;
  lines: readonly string[];
  headings: readonly string[];
  /** The targets of links, as written. */
  links: readonly string[];
  /** The content of code spans, and each fenced block as one text. */
  spans: readonly string[];
  blocks: readonly string[];
}>;

/** A command in a terminal session, with its output. */
export type Shown = Readonly<{ command: string; output: string }>;

const FENCE = /^( *)```\w*\n([^]*?)^ *```$/gm;

/** Folders whose files are installed, built or measured, not written. */
const SKIPPED = /(^|\/)(node_modules|dist|coverage|bench\/results|\.[^/]+)\//;

export function readPage(path: string): Page {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const prose = text.replace(FENCE, '');
  const outsideCode = prose.replace(/`[^`\n]+`/g, '');
  return {
    path,
    lines: text.replace(/\n$/, '').split('\n'),
    headings: [...prose.matchAll(/^#+ (.+)$/gm)].map(([, title]) => title!),
    links: [...outsideCode.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!),
    spans: [...prose.matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!),
    blocks: [...text.matchAll(FENCE)].map(([, indent = '', block = '']) =>
      block.replaceAll(new RegExp(`^${indent}`, 'gm'), '')),
  };
}

export function readPages(): Page[] {
  return readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md') && !SKIPPED.test(path))
    .sort()
    .map(readPage);
}

/** The anchor that GitHub gives a heading. */
export function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, '').replaceAll(' ', '-');
}

/** The cells of every table row, headers included, without code marks. */
export function rowsOf({ lines }: Page): string[][] {
  return lines.filter((line) => line.startsWith('| '))
    .map((line) => line.slice(2, -2).split(/(?<!\\) \| /)
      .map((cell) => cell.replaceAll('`', '').trim()));
}

/** The commands of a block: each begins with `$ ` and continues after a backslash. */
export function commandsOf(block: string): Shown[] {
  return [...block.matchAll(/^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)/gm)]
    .map(([, command = '', output = '']) => ({ command, output }));
}
