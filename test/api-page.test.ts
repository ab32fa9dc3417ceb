/** docs/openapi.html shows all that openapi.json describes. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DESCRIPTION, ROOT } from './harness/program.ts';

type Members = Readonly<Record<string, unknown>>;

const ENTITIES: Readonly<Record<string, string>> = {
  lt: '<', gt: '>', quot: '"', '#39': "'", amp: '&',
};
const METHODS = /^(get|put|post|delete|options|head|patch|trace)$/;

const page = readFileSync(join(ROOT, 'docs/openapi.html'), 'utf8');
const description = JSON.parse(DESCRIPTION.toString()) as Members;
const components = description.components as Record<string, Record<string, Members>>;

/** The text as a reader sees it, on one line, without the marks of Markdown. */
function plain(text: string): string {
  return text.replace(/^- /gm, '').replace(/[`*\s]+/g, ' ').trim();
}

function textOf(html: string): string {
  return plain(html.replace(/<[^>]*>/g, ' ')
    .replace(/&(lt|gt|quot|#39|amp);/g, (_, name: string) => ENTITIES[name]!));
}

/** The words of a text, for what the page divides into pieces of its own. */
const packed = (text: string): string => plain(text).replaceAll(' ', '');

/** The parts of the page, each from a heading of the level on. */
const sections = page.slice(page.indexOf('<main>')).split(/(?=<h[23]>)/).map(textOf);

function membersOf(value: unknown): [name: string, value: Members][] {
  return Object.entries((value ?? {}) as Record<string, Members>);
}

/** Follows the reference that a part of the description may be. */
function resolve(part: Members): Members {
  const { $ref } = part;
  if (typeof $ref !== 'string') return part;
  return $ref.slice(2).split('/').reduce((at, name) => at[name] as Members, description);
}

/** What stands on the page for a request or a response with a body. */
function bodiesOf(content: unknown): string[] {
  return membersOf(content).flatMap(([type, { example, examples }]) => [
    type, ...membersOf(examples).flatMap(([name, { value }]) => [name, shown(value)]),
    ...(example === undefined ? [] : [shown(example)]),
  ]);
}

/** An example as JSON; that of a parameter may have no quotes on the page. */
function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return typeof value === 'string' ? text.slice(1, -1) : text;
}

function responsesOf(responses: unknown): string[] {
  return membersOf(responses).flatMap(([status, reference]) => {
    const { description: reason, headers, content } = resolve(reference);
    const names = membersOf(headers).map(([name, header]) =>
      (resolve(header).required === true ? `${name} (required)` : name));
    return [`${status} ${reason as string}`, ...names, ...bodiesOf(content)];
  });
}

type Operation = Readonly<{ name: string; texts: readonly string[] }>;

function operations(): Operation[] {
  const described = membersOf(description.paths).flatMap(([path, { parameters = [], ...rest }]) =>
    membersOf(rest).filter(([method]) => METHODS.test(method)).map(([method, operation]) => {
      const all = [...parameters as Members[], ...(operation.parameters ?? []) as Members[]];
      const asked = all.map(resolve).flatMap(({ name, description: use = '', example }) =>
        [name as string, use as string, ...(example === undefined ? [] : [shown(example)])]);
      const { operationId, summary, description: use = '', requestBody, responses } = operation;
      return {
        name: `${method.toUpperCase()} Path: ${path} Operation ID: ${operationId as string}`,
        texts: [summary as string, use as string, ...asked,
          ...bodiesOf((requestBody as Members | undefined)?.content), ...responsesOf(responses)],
      };
    }));
  const { description: use, responses } = description['x-other-requests'] as Members;
  return [...described,
    { name: 'ANY Path:', texts: [use as string, ...responsesOf(responses)] }];
}

/** The names, values and descriptions of a schema. A reference is a link to another schema. */
function schemaTexts(schema: unknown): string[] {
  if (Array.isArray(schema)) return schema.flatMap(schemaTexts);
  if (typeof schema !== 'object' || schema === null) return [];
  return membersOf(schema).flatMap(([keyword, value]) => {
    if (keyword === 'properties') {
      return membersOf(value).flatMap(([name, member]) => [name, ...schemaTexts(member)]);
    }
    if (/^(description|pattern|minLength|maxLength|minimum|maximum)$/.test(keyword)) {
      return [String(value)];
    }
    if (keyword === 'const') return [JSON.stringify(value)];
    if (keyword === 'enum') {
      return (value as unknown as unknown[]).map((one) => JSON.stringify(one));
    }
    return schemaTexts(value);
  });
}

function missing(texts: readonly string[], section: string | undefined, name: string): string[] {
  if (section === undefined) return [`${name} has no section`];
  const within = packed(section);
  return texts.filter((text) => !within.includes(packed(text))).map((text) => `${name}: ${text}`);
}

test('docs/openapi.html is made from openapi.json: npm run api-page writes it', () => {
  const [, digest] = /<meta name="openapi-json-sha256" content="(\w+)">/.exec(page) ?? [];
  assert.is(digest, createHash('sha256').update(DESCRIPTION).digest('hex'));
});

test('the page has each operation with its parameters, bodies, headers and examples', () => {
  const all = operations();
  assert.ok(all.length > 20);
  assert.equal(all.flatMap(({ name, texts }) =>
    missing(texts, sections.find((section) => section.includes(`Method: ${name}`)), name)), []);
});

test('the page has each schema with its members and values', () => {
  const schemas = membersOf(components.schemas);
  assert.equal(schemas.flatMap(([name, schema]) =>
    missing(schemaTexts(schema), sections.find((one) => one.startsWith(`${name} `)), name)), []);
});

test('the page describes each header once', () => {
  const headers = sections.slice(sections.findIndex((section) => section === 'Headers')).join(' ');
  const texts = membersOf(components.headers).flatMap(([, { schema, ...header }]) =>
    [...schemaTexts(header), ...schemaTexts(schema)]);
  assert.ok(texts.length > 20);
  assert.equal(missing(texts, headers, 'the headers'), []);
});

test('the page has the introduction, the servers and the tags', () => {
  const { info, servers, tags } = description as Record<string, Members[]>;
  const texts = [info, ...servers!, ...tags!].map((part) =>
    String((part as Members).description));
  assert.equal(missing(texts, textOf(page), 'the page'), []);
});

test('the page loads nothing, runs nothing and names no folder of a machine', () => {
  assert.not.match(page, /<(script|iframe|object|embed|base|form)\b|\son\w+=|@import|url\(/i);
  const targets = [...page.matchAll(/\s(?:href|src)="([^"]*)"/g)].map(([, target]) => target!);
  assert.ok(targets.length > 100);
  assert.equal(targets.filter((target) => !/^(#|data:,$)/.test(target)), []);
  const ids = new Set([...page.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => `#${id}`));
  assert.equal(targets.filter((target) => target.startsWith('#') && !ids.has(target)), []);
  assert.not.match(page, /\/(home|root|tmp|work|Users)\//);
});

test.run();
