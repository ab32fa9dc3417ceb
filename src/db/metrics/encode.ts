/** The text format of Prometheus, version 0.0.4. */
import type { Family, Sample } from './family.ts';

/** What the text is announced as. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Writes families out, each name once. */
export function encodeFamilies(families: readonly Family[]): string {
  return families.map(encodeFamily).join('');
}

function encodeFamily({ name, help, type, samples }: Family): string {
  const head = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
  return head + samples.map((sample) => encodeSample(name, sample)).join('');
}

function encodeSample(name: string, { suffix, labels, value }: Sample): string {
  const list = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  const braces = list.length === 0 ? '' : `{${list.join(',')}}`;
  return `${name}${suffix}${braces} ${value}\n`;
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
