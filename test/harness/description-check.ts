/**
 * The description check at the end of a lane: every answer that a test has seen is one that
 * openapi.json describes (status, headers, content type, body), and a request with a good answer is
 * one that it describes. After a whole lane, every operation, status and error has been seen.
 */
import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { ValidateFunction } from 'ajv/dist/2020.js';
import { ANSWERS } from './answer-recorder.ts';
import type { Answer } from './answer-recorder.ts';
import { ROOT } from './program.ts';

type Schema = Readonly<Record<string, unknown>>;
type Reference = Readonly<{ $ref?: string }>;

type Content = Readonly<Record<string, Readonly<{
  schema: Schema;
  example?: unknown;
  examples?: Readonly<Record<string, Readonly<{ value: unknown }>>>;
}>>>;

type HeaderRule = Readonly<{ required?: boolean; schema: Schema }> & Reference;

type ResponseRule = Readonly<{
  headers: Readonly<Record<string, HeaderRule>>;
  content?: Content;
}> & Reference;

type Operation = Readonly<{
  operationId: string;
  requestBody?: Readonly<{ content: Content }>;
  responses: Readonly<Record<string, ResponseRule>>;
}>;

type Description = Readonly<{
  info: Readonly<{ version: string }>;
  paths: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  'x-other-requests': Omit<Operation, 'operationId'>;
}>;

/** The operations, and under the same name the requests that are none. */
type Route = Readonly<{
  name: string;
  /** In upper case; null for a request that is no operation. */
  method: string | null;
  path: RegExp | null;
  /** The part of the path before its parameters. */
  prefix: string;
  requestBody: Content | null;
  responses: ReadonlyMap<number, ResponseRule>;
}>;

/** One undescribed answer is enough to fail. */
const SHOWN_MAX = 10;

/** What node:http adds to every message. */
const HTTP_HEADERS: readonly string[] = ['date', 'connection', 'keep-alive'];

const METHODS = /^(get|put|post|delete|options|head|patch|trace)$/;

export function readDescription(): Description {
  return JSON.parse(readFileSync(join(ROOT, 'openapi.json'), 'utf8')) as Description;
}

/** Holds answers to the description, and remembers what it has seen. */
export class DescriptionCheck {
  readonly #description: Description;
  readonly #ajv: Ajv2020;
  readonly #validators = new Map<object, ValidateFunction>();
  readonly #routes: readonly Route[];
  readonly #seen = new Set<string>();

  constructor(description: Description = readDescription()) {
    this.#description = description;
    // The keywords of OpenAPI that are no JSON Schema stand outside of schemas.
    this.#ajv = new Ajv2020({ strict: true, allErrors: true, strictTypes: false });
    this.#ajv.addFormat('date-time', true);
    this.#ajv.addKeyword('components');
    this.#ajv.addSchema({ $id: 'description', ...this.#pick('components') });
    this.#routes = this.#readRoutes();
  }

  /** @returns what the description says otherwise; '' when it has the answer */
  judge(answer: Answer): string {
    const route = this.#routeOf(answer);
    const rule = route.responses.get(answer.status);
    if (rule === undefined) return `${route.name} has no ${answer.status}`;
    const headers = collect(answer.headers);
    const isHead = answer.request?.method === 'HEAD';
    const problems = [
      ...this.#judgeHeaders(rule, headers),
      ...this.#judgeContent(rule, headers.get('content-type'), isHead ? null : answer.body),
      ...this.#judgeRequest(route, answer),
    ];
    this.#seen.add(seenName(route.name, answer.status, errorOf(answer.body)));
    return problems.map((problem) => `${route.name} ${answer.status}: ${problem}`).join('\n');
  }

  /** What the description has and no answer has shown. */
  unseen(): string[] {
    return this.#routes.flatMap(({ name, method, responses }) =>
      [...responses].flatMap(([status, { content = {} }]) => {
        const values = Object.values(content).flatMap(examplesOf);
        const errors = method === 'HEAD' || values.length === 0 ? [''] : values.map(errorIn);
        return [...new Set(errors)].map((error) => seenName(name, status, error));
      })).filter((name) => !this.#seen.has(name));
  }

  /** Every example that its own schema refuses. */
  wrongExamples(): string[] {
    return this.#routes.flatMap(({ name, requestBody, responses }) => [
      ...this.#wrongIn(`${name} request`, requestBody ?? {}),
      ...[...responses].flatMap(([status, { content = {} }]) =>
        this.#wrongIn(`${name} ${status}`, content)),
    ]);
  }

  #wrongIn(name: string, content: Content): string[] {
    return Object.values(content).flatMap((media) => examplesOf(media)
      .map((value) => this.#errors(media.schema, value)).filter((text) => text !== '')
      .map((text) => `${name}: ${text}`));
  }

  #pick(name: 'components'): object {
    return { [name]: (this.#description as unknown as Record<string, unknown>)[name] };
  }

  #readRoutes(): Route[] {
    const { paths, 'x-other-requests': other } = this.#description;
    const routes = Object.entries(paths).flatMap(([path, item]) =>
      Object.entries(item).filter(([name]) => METHODS.test(name)).map(([name, value]) => {
        const method = name.toUpperCase();
        const operation = value as Operation;
        return {
          name: `${method} ${path}`, method, path: patternOf(path),
          prefix: path.replace(/\{.*/, ''),
          requestBody: operation.requestBody?.content ?? null,
          responses: this.#responsesOf(operation),
        };
      }));
    return [...routes, {
      name: 'other requests', method: null, path: null, prefix: '', requestBody: null,
      responses: this.#responsesOf(other),
    }];
  }

  #responsesOf({ responses }: Omit<Operation, 'operationId'>): ReadonlyMap<number, ResponseRule> {
    return new Map(Object.entries(responses).map(([status, rule]) =>
      [Number(status), this.#resolve(rule)]));
  }

  #resolve<T extends Reference>(value: T): T {
    if (value.$ref === undefined) return value;
    const names = value.$ref.slice('#/'.length).split('/');
    let found: unknown = this.#description;
    for (const name of names) found = (found as Record<string, unknown>)[name];
    return found as T;
  }

  /** The paths of one listener are unknown to the other one, which names its own. */
  #routeOf({ request, status, body }: Answer): Route {
    const other = this.#routes.at(-1)!;
    if (request === null) return other;
    const path = request.target.replace(/^https?:\/\/[^/?]*/i, '').replace(/\?.*/, '');
    // A path without parameters comes first, as OpenAPI says.
    const isLiteral = this.#routes.some(({ prefix }) => prefix === path);
    const route = this.#routes.find((one) => one.method === request.method
      && (isLiteral ? one.prefix === path : one.path!.test(path))) ?? other;
    const isOfOther = !route.responses.has(status)
      && (errorOf(body) === 'misdirected_request'
        || (errorOf(body) === 'not_found' && !body.includes(route.prefix)));
    return isOfOther ? other : route;
  }

  #judgeHeaders(rule: ResponseRule, headers: ReadonlyMap<string, string>): string[] {
    const rules = new Map(Object.entries(rule.headers).map(([name, value]) =>
      [name.toLowerCase(), this.#resolve(value)]));
    const problems = [...rules].filter(([name, { required }]) =>
      required === true && !headers.has(name)).map(([name]) => `${name} is missing`);
    for (const [name, value] of headers) {
      if (HTTP_HEADERS.includes(name) || name === 'content-type') continue;
      const { schema } = rules.get(name) ?? {};
      if (schema === undefined) {
        problems.push(`${name} is not described`);
        continue;
      }
      const typed = schema.type === 'integer' && /^\d+$/.test(value) ? Number(value) : value;
      const errors = this.#errors(schema, typed);
      if (errors !== '') problems.push(`${name}: ${value}: ${errors}`);
    }
    return problems;
  }

  /** @param body null for an answer to HEAD */
  #judgeContent({ content }: ResponseRule, type: string | undefined, body: string | null) {
    if (content === undefined) {
      return type === undefined && (body ?? '') === '' ? [] : ['it has a body'];
    }
    const media = content[type ?? ''];
    if (media === undefined) return [`the content type ${type} is not described`];
    if (body === null) return [];
    const errors = this.#errors(media.schema, type === 'application/json' ? parse(body) : body);
    return errors === '' ? [] : [`${errors} in ${body.slice(0, 400)}`];
  }

  #judgeRequest({ requestBody }: Route, { status, sent }: Answer): string[] {
    const media = requestBody?.['application/json'];
    if (media === undefined || sent === null || status >= 300) return [];
    const errors = this.#errors(media.schema, sent);
    return errors === '' ? [] : [`the request is not described: ${errors}`];
  }

  /** The errors of a value; '' when it is valid. */
  #errors(schema: Schema, value: unknown): string {
    let validate = this.#validators.get(schema);
    if (validate === undefined) {
      // A reference of the description is one of the document that was added.
      const text = JSON.stringify(schema).replaceAll('"$ref":"#/', '"$ref":"description#/');
      validate = this.#ajv.compile(JSON.parse(text) as object);
      this.#validators.set(schema, validate);
    }
    return validate(value) ? '' : this.#ajv.errorsText(validate.errors, { dataVar: 'it' });
  }
}

/** The paths of a template, whatever its parameters. */
function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`);
}

function examplesOf({ example, examples = {} }: Content[string]): unknown[] {
  const values = Object.values(examples).map(({ value }) => value);
  return example === undefined ? values : [...values, example];
}

function seenName(name: string, status: number, error: string): string {
  return `${name} ${status} ${error}`.trim();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The `error` of a body; '' when it has none. */
function errorOf(body: string): string {
  return errorIn(body.startsWith('{"error"') ? parse(body) : null);
}

function errorIn(value: unknown): string {
  const { error } = (value ?? {}) as { error?: unknown };
  return typeof error === 'string' ? error : '';
}

/** The headers by their names in lower case; the values of a repeated one are joined. */
function collect(items: readonly string[]): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (let at = 0; at < items.length; at += 2) {
    const name = items[at]!.toLowerCase();
    const before = headers.get(name);
    headers.set(name, before === undefined ? items[at + 1]! : `${before}, ${items[at + 1]}`);
  }
  return headers;
}

/**
 * Judges every recorded answer.
 *
 * @param folders those of the answer recorder
 * @param mustBeComplete true for a whole lane whose tests see everything that is described
 * @returns '' without a problem
 */
export async function findUndescribed(
  folders: readonly string[],
  mustBeComplete: boolean,
): Promise<string> {
  const check = new DescriptionCheck();
  const problems = new Map<string, Answer>();
  for (const file of folders.flatMap(recordsIn)) {
    for await (const line of createInterface({ input: createReadStream(file) })) {
      const answer = JSON.parse(line) as Answer;
      const problem = check.judge(answer);
      if (problem !== '' && !problems.has(problem)) problems.set(problem, answer);
    }
  }
  const unseen = mustBeComplete ? check.unseen().map((name) => `no test has seen: ${name}`) : [];
  return [...[...problems].slice(0, SHOWN_MAX).map(([problem, answer]) =>
    `${problem}\n  ${JSON.stringify(answer).slice(0, 800)}`), ...unseen].join('\n');
}

function recordsIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => basename(name).startsWith(`${ANSWERS}.`))
    .map((name) => join(folder, name));
}
