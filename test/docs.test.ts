/** The documentation agrees with the repository: links, paths, commands, variables, citations. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  completePolicy, DEFAULT_DRAFT, DEFAULT_POLICY, POLICY_BOUNDS,
} from '../src/otp/policy/policy.ts';
import { anchorOf, commandsOf, readPage, readPages, rowsOf } from './harness/markdown.ts';
import type { Page } from './harness/markdown.ts';
import { deviceTable, guessTable, messageTable } from './harness/attack-odds.ts';
import { ROOT } from './harness/program.ts';

/** Bounds that a reader notices: a first page, one sitting, one screen of rules. */
const LINES_MAX = { 'README.md': 200, 'ARCHITECTURE.md': 250, 'CONTRIBUTING.md': 120 };

/** Folders of the repository; a path in code begins with one of them. */
const FOLDERS = 'src|test|tools|bench|client|docs|deploy|examples|schema|scenarios|messages|\\.ci';
/** Layers; ARCHITECTURE.md leaves `src/` out. */
const LAYERS = 'app|http|otp|db|metrics';

const PAGES = readPages();

function pageAt(path: string): Page | undefined {
  return PAGES.find((page) => page.path === path);
}

function has(path: string): boolean {
  return existsSync(join(ROOT, path));
}

function filesOf(folder: string, ending: RegExp): string[] {
  if (!has(folder)) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name)).filter((name) => ending.test(name));
}

function textOf(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** What each page says that is not so. */
function findInPages(find: (page: Page) => string[]): string[] {
  return PAGES.flatMap((page) => find(page).map((wrong) => `${page.path}: ${wrong}`));
}

function isBroken(page: Page, link: string): boolean {
  if (/^https:\/\//.test(link)) return false;
  const [target = '', anchor] = link.split('#');
  const path = target === '' ? page.path : normalize(join(dirname(page.path), target));
  if (!has(path)) return true;
  return anchor !== undefined && pageAt(path)?.headings.map(anchorOf).includes(anchor) !== true;
}

test('every link leads to a file, and to a heading of it', () => {
  assert.equal(findInPages((page) => page.links.filter((link) => isBroken(page, link))), []);
});

test('every path that is named in code exists', () => {
  const named = new RegExp(`(?<![\\w./-])(?:${FOLDERS})/[\\w./-]*`, 'g');
  const inLayer = new RegExp(`^(?:(?:${LAYERS})/[\\w./-]*|main\\.ts)$`);
  assert.equal(findInPages(({ spans, blocks }) => {
    const code = [...spans, ...blocks].join('\n').replaceAll(/\S*\*\S*/g, '');
    const paths = [...code.matchAll(named)].map(([path]) => path.replace(/\.+$/, ''));
    const layered = spans.filter((span) => inLayer.test(span)).map((span) => `src/${span}`);
    return [...new Set([...paths, ...layered])].filter((path) => !has(path));
  }), []);
});

test('the README leads to every page of docs', () => {
  const { links } = readPage('README.md');
  const pages = filesOf('docs', /\.md$/);
  assert.ok(pages.length > 10);
  assert.equal(pages.filter((path) => !links.includes(path)), []);
});

test('the pages that are read as a whole are short', () => {
  for (const [path, max] of Object.entries(LINES_MAX)) {
    assert.ok(readPage(path).lines.length <= max, path);
  }
});

/** A citation such as `docs/api.md, "Key" and "Errors"`; one without sections names the page. */
const SECTION = '(?:,(?: and)?| and) (?:"[^"]*"|(?:N of )?case \\d+)';
const CITATION = new RegExp(`((?:[\\w-]+/)*[\\w-]+\\.md)((?:${SECTION})*)(?=[^'\`])`, 'g');

/** The text of a file in one line: a citation may continue on the next line of its comment. */
function unwrapped(path: string): string {
  return textOf(path).replaceAll(/\s*\n\s*(?:\*|\/\/|--|#)?\s*/g, ' ');
}

/** The citations in a file that lead nowhere. */
function findDangling(path: string): string[] {
  return [...unwrapped(path).matchAll(CITATION)].filter(([, target = '', sections = '']) => {
    const names = [...sections.matchAll(/"([^"]*)"/g)].map(([, name]) => name!);
    return !names.every((name) => pageAt(target)?.headings.includes(name)) || !has(target);
  }).map(([citation]) => `${path}: ${citation}`);
}

test('every citation of a page leads to the page and its section', () => {
  const files = [...filesOf('src', /\.ts$/), ...filesOf('tools', /\.ts$/),
    ...filesOf('bench', /(?<!node_modules.*)\.ts$/), ...filesOf('schema', /\.sql$/),
    ...filesOf('scenarios', /\.scenario$/)];
  assert.equal(files.flatMap(findDangling), []);
});

test('the contract is cited by its page and a section', () => {
  const files = [...filesOf('src', /\.ts$/), ...filesOf('schema', /\.sql$/),
    ...filesOf('scenarios', /\.scenario$/)];
  const wrong = /\(contract\b|\bREADME, "|\(docs\/api\.md(?!, ")/;
  assert.equal(files.filter((path) => wrong.test(unwrapped(path))), []);
});

test('every npm script that is named exists', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: object };
  assert.equal(findInPages(({ spans, blocks }) => {
    const code = [...spans, ...blocks].join('\n');
    const names = [...code.matchAll(/\bnpm (?:run (?:-s )?([\w:-]+)|(start|test)\b)/g)]
      .map(([, script, short]) => (script ?? short)!);
    return [...new Set(names)].filter((name) => !(name in scripts));
  }), []);
});

test('every npm script replaces its shell, which would not pass a signal on', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
  const others = Object.entries(scripts).filter(([, script]) =>
    !script.startsWith('exec ') || /[;&|]/.test(script));
  assert.equal(others, []);
});

/** The commands of otpd as `otpd help` lists them, with their arguments. */
function commandsOfHelp(): string[] {
  const main = ['--import', 'tsx', 'src/main.ts', 'help'];
  const help = execFileSync(process.execPath, main, { cwd: ROOT, encoding: 'utf8' });
  return [...help.matchAll(/^ {2}([a-z]+(?: \S+)*) {2,}\S/gm)].map(([, command]) => command!);
}

test('the command table and the help list the same commands, and no other is named', () => {
  const commands = commandsOfHelp();
  const described = rowsOf(readPage('docs/cli.md')).filter((cells) => cells.length === 4);
  assert.equal(described.slice(1).map(([command]) => command).sort(), [...commands].sort());
  for (const [command = '', , , production] of described.slice(1)) {
    assert.ok(production!.startsWith(`node dist/main.js ${command.split(' ')[0]}`), command);
  }
  const names = new Set(commands.map((command) => command.split(' ')[0]));
  assert.equal(findInPages(({ spans, blocks }) => {
    const lines = [...spans, ...blocks.flatMap((block) => block.split('\n'))];
    return lines.filter((line) => {
      const name = /^(?:\$ )?(?:node dist\/main\.js|otpd) ([a-z]+)(?: [A-Z\[]|$)/.exec(line)?.[1];
      return name !== undefined && !names.has(name);
    });
  }), []);
});

/** Variables of every shell. */
const SHELL_VARIABLES = ['HOME', 'PATH'];

/** The variables that the configuration of otpd reads. */
function variablesOfOtpd(): string[] {
  const files = filesOf('src', /^src\/(app\/config\/[\w-]+|config[\w-]*|[\w-]+-settings)\.ts$/);
  const names = files.flatMap((path) =>
    [...textOf(path).matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, name]) => name!));
  return [...new Set(names)].filter((name) => !SHELL_VARIABLES.includes(name));
}

function documentedVariables(): Map<string, string> {
  const rows = rowsOf(readPage('docs/configuration.md')).filter(([name]) => name !== 'variable');
  assert.is(new Set(rows.map(([name]) => name)).size, rows.length);
  return new Map(rows.map(([name, value]) => [name!, value!]));
}

test('the configuration page has every variable that is read, and no other', () => {
  const documented = documentedVariables();
  const read = variablesOfOtpd();
  assert.ok(read.length > 20);
  assert.equal(read.filter((name) => !documented.has(name)), []);
  const tools = filesOf('tools', /\.ts$/).map(textOf).join('\n');
  const unread = [...documented.keys()].filter((name) =>
    !read.includes(name) && !new RegExp(`\\b${name}\\b`).test(tools));
  assert.equal(unread, []);
});

test('.env.example has the same variables, and the same defaults', () => {
  const documented = documentedVariables();
  const lines = [...textOf('.env.example').matchAll(/^(#?)([A-Z][A-Z_]+)=(.*)$/gm)];
  const names = lines.map(([, , name]) => name!);
  // The cache folder is that of all programs.
  assert.equal([...names, 'XDG_CACHE_HOME'].sort(), [...documented.keys()].sort());
  for (const [, mark, name = '', value] of lines) {
    if (mark === '') assert.is(documented.get(name), value, name);
  }
});

test('the policy page has the defaults and bounds of every member', () => {
  const shown = rowsOf(readPage('docs/policy.md')).slice(1).map(([member = '', ...numbers]) => {
    const [name = ''] = member.split(' ');
    return [name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()), ...numbers];
  });
  // The reserve for devices is 0 while no policy trusts devices.
  const defaults = { ...completePolicy({ ...DEFAULT_DRAFT, deviceDays: 1 }),
    deviceDays: DEFAULT_POLICY.deviceDays };
  const real = Object.entries(POLICY_BOUNDS).map(([name, { min, max }]) =>
    [name, String(defaults[name as keyof typeof POLICY_BOUNDS] ?? 'none'), `${min}`,
      `${max}`]);
  assert.equal(shown.sort(), real.sort());
});

test('the security page has the odds of the default policy', () => {
  const text = textOf('docs/security.md');
  const trusting = completePolicy({ ...DEFAULT_DRAFT, deviceDays: 30 });
  for (const table of [guessTable(DEFAULT_POLICY), messageTable(DEFAULT_POLICY),
    deviceTable(DEFAULT_POLICY, trusting)]) {
    assert.ok(text.includes(table), table);
  }
});

test('the API page names every error with its status', () => {
  const table = filesOf('src/http', /\.ts$/).map(textOf)
    .find((text) => text.includes('headers_too_large: 431'));
  const errors = [...table!.matchAll(/^ {2}(\w+): ([45]\d\d),$/gm)]
    .filter(([, name]) => name !== 'not_ready');
  assert.ok(errors.length > 15);
  const { lines } = readPage('docs/api.md');
  for (const [, name, status] of errors) {
    const isNamed = lines.some((line) =>
      line.includes(status!) && new RegExp(`[\`"]${name}[\`"]`).test(line));
    assert.ok(isNamed, name);
  }
});

test('the README shows the first and the last file of the schema', () => {
  const shown = readPage('README.md').blocks.join('')
    .matchAll(/^schema (\S+) to (\S+): applying$/gm);
  const files = readdirSync(join(ROOT, 'schema')).sort().map((name) => name.replace('.sql', ''));
  // The first file makes the table that holds the lock, and is not announced.
  assert.equal([...shown].map(([, ...names]) => names), [[files[1], files.at(-1)]]);
});

test('every shell command of the README is of a kind that a test runs', () => {
  const commands = readPage('README.md').blocks.flatMap(commandsOf);
  const known = /^(npm ci|npm (run|start|test)\b|node dist\/main\.js|curl )/;
  assert.ok(commands.length >= 8);
  assert.equal(commands.filter(({ command }) => !known.test(command)), []);
});

test.run();
