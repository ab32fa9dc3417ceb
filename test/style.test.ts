/** The style of the project as tests: layers, sizes, names, words, and what stands in one place. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canRun } from './harness/not-run.ts';
import { ROOT } from './harness/program.ts';

/** Ratchets: lower a bound when the code allows it, never raise one. */
const FILES_MAX = 140;
const FILES_PER_FOLDER_MAX = 12;
const FILES_AT_TOP_MAX = 2;
const FILE_LINES_MAX = 300;
const MEDIAN_LINES_MIN = 80;
const MEDIAN_LINES_MAX = 120;
const FUNCTION_LINES_MAX = 60;
const LINE_COLUMNS_MAX = 100;
const SHORT_DOC_CHARACTERS = 28;
const SHORT_DOCS_MAX = 10;

type Source = Readonly<{ path: string; text: string; code: string; lines: string[] }>;

function sourcesOf(folder: string, ending = /\.ts$/): Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => ending.test(name))
    .sort()
    .map((name) => readSource(`${folder}/${name}`));
}

function readSource(path: string): Source {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^(\s*)\/\/.*$/gm, '$1');
  return { path, text, code, lines: text.split('\n') };
}

const SRC = sourcesOf('src');
const TESTS = sourcesOf('test');
const TOOLS = sourcesOf('tools');
/** Code without a build: what other projects copy. */
const SHARED = [...sourcesOf('client', /\.(js|ts)$/), ...sourcesOf('examples', /\.m?js$/)];
const BENCH = sourcesOf('bench').filter(({ path }) => !path.includes('node_modules'));

/** Every match of a pattern in code, comments left out. */
function findAll(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ path, code }) =>
    [...code.matchAll(pattern)].map(([found]) => `${path}: ${found}`));
}

function outside(...paths: string[]): Source[] {
  return SRC.filter(({ path }) => !paths.some((prefix) => path.startsWith(prefix)));
}

const IMPORT = /^import (?:type )?(?:(\w+|\* as \w+)|\{([^}]*)\}) from '([^']+)';/gm;

/** The imports of a file: the target, relative to the root where it is a file, and the names. */
function importsOf({ path, code }: Source): { target: string; names: string[] }[] {
  return [...code.matchAll(IMPORT)].map(([, , list = '', name = '']) => ({
    target: name.startsWith('.') ? join(dirname(path), name) : name,
    names: list.split(',').map((part) => part.trim().split(' as ')[0]!).filter(Boolean),
  }));
}

const EXPORT = /^export (?:abstract )?(?:async )?(?:function\*?|class|const|let|type) (\w+)/gm;

function exportsOf({ code }: Source): string[] {
  return [...code.matchAll(EXPORT)].map(([, name]) => name!);
}

/** src/db/pool.ts belongs to the layer db; src/main.ts to main. */
function layerOf(path: string): string {
  const [, layer = '', rest] = path.split('/');
  return rest === undefined ? 'main' : layer;
}

const LAYERS = ['main', 'app', 'http', 'otp', 'db', 'metrics'];

test('a layer imports from the layers to its right only: main, app, http, otp, db, metrics', () => {
  const wrong = SRC.flatMap((source) => importsOf(source)
    .filter(({ target }) => /^(src|tools|test|bench)\//.test(target))
    .filter(({ target }) => !target.startsWith('src/')
      || LAYERS.indexOf(layerOf(source.path)) > LAYERS.indexOf(layerOf(target)))
    .map(({ target }) => `${source.path} imports ${target}`));
  assert.equal(wrong, []);
  assert.equal([...new Set(SRC.map(({ path }) => layerOf(path)))].sort(), [...LAYERS].sort());
});

test('src contains nothing of the development MySQL', () => {
  const texts = SRC.map((source) => ({ ...source, code: source.text }));
  assert.equal(findAll(texts, /mysqld|\bapt\b|apt-get/gi), []);
});

test('http knows of db only that the database can be unavailable', () => {
  const names = SRC.filter(({ path }) => path.startsWith('src/http/')).flatMap(importsOf)
    .filter(({ target }) => target.startsWith('src/db/'))
    .flatMap((one) => one.names.map((name) => `${one.target} ${name}`));
  assert.equal([...new Set(names)].sort(), ['src/db/errors.ts Unavailable']);
});

test('src has no import circle', () => {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) circles.push([...trail.slice(trail.indexOf(path)), path].join(' > '));
    if (done.has(path) || trail.includes(path)) return;
    const source = SRC.find((other) => other.path === path);
    for (const { target } of source === undefined ? [] : importsOf(source)) {
      visit(target, [...trail, path]);
    }
    done.add(path);
  };
  for (const { path } of SRC) visit(path, []);
  assert.equal(circles, []);
});

test('every file of src is reached from main.ts', () => {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    const source = SRC.find((other) => other.path === path);
    for (const { target } of source === undefined ? [] : importsOf(source)) visit(target);
  };
  visit('src/main.ts');
  assert.equal(SRC.map(({ path }) => path).filter((path) => !reached.has(path)), []);
});

test('an exported name of src has one meaning and an importer', () => {
  const homes = new Map<string, string[]>();
  for (const source of SRC) {
    for (const name of exportsOf(source)) {
      homes.set(name, [...homes.get(name) ?? [], source.path]);
    }
  }
  const imported = new Set([...SRC, ...TESTS, ...TOOLS, ...BENCH].flatMap((source) =>
    importsOf(source).flatMap(({ target, names }) => names.map((name) => `${target} ${name}`))));
  const twice = [...homes].filter(([, paths]) => paths.length > 1);
  assert.equal(twice.map(([name, paths]) => `${name}: ${paths.join(', ')}`), []);
  const needless = [...homes].flatMap(([name, paths]) =>
    paths.filter((path) => !imported.has(`${path} ${name}`)).map((path) => `${path}: ${name}`));
  assert.equal(needless, []);
});

test('the tree of src stays small enough to read', () => {
  const folders = new Map<string, number>();
  for (const { path } of SRC) {
    folders.set(dirname(path), (folders.get(dirname(path)) ?? 0) + 1);
  }
  const crowded = [...folders].filter(([folder, count]) =>
    count > (folder === 'src' ? FILES_AT_TOP_MAX : FILES_PER_FOLDER_MAX));
  assert.equal(crowded, []);
  assert.ok(SRC.length <= FILES_MAX, `${SRC.length} files`);
  const lengths = SRC.map(({ lines }) => lines.length - 1).sort((a, b) => a - b);
  const median = lengths[Math.floor(lengths.length / 2)]!;
  assert.ok(median >= MEDIAN_LINES_MIN && median <= MEDIAN_LINES_MAX, `median ${median} lines`);
});

test(`a file of src, tools or client has at most ${FILE_LINES_MAX} lines`, () => {
  const long = [...SRC, ...TOOLS, ...SHARED]
    .filter(({ lines }) => lines.length > FILE_LINES_MAX + 1);
  assert.equal(long.map(({ path, lines }) => `${path}: ${lines.length - 1}`), []);
});

test(`a function has at most ${FUNCTION_LINES_MAX} lines`, () => {
  const long: string[] = [];
  for (const { path, lines } of [...SRC, ...TOOLS, ...SHARED]) {
    lines.forEach((line, start) => {
      const head = /^(\s*)(export |static |async )*(function\b|#?\w+\(.*\{$)/.exec(line);
      if (head === null) return;
      const end = lines.findIndex((other, index) => index > start
        && (other === `${head[1]}}` || other === `${head[1]}},`));
      if (end - start > FUNCTION_LINES_MAX) long.push(`${path}:${start + 1}: ${end - start}`);
    });
  }
  assert.equal(long, []);
});

test(`a line has at most ${LINE_COLUMNS_MAX} columns`, () => {
  const long = [...SRC, ...TOOLS, ...SHARED, ...TESTS].flatMap(({ path, lines }) =>
    lines.flatMap((line, index) =>
      ([...line].length > LINE_COLUMNS_MAX ? [`${path}:${index + 1}`] : [])));
  assert.equal(long, []);
});

test('db imports mysql2, e-mail loads nodemailer, and src uses no other package', () => {
  const packages = (sources: readonly Source[]) => [...new Set(sources.flatMap(importsOf)
    .map(({ target }) => target).filter((name) => !/^(node:|src\/)/.test(name)))].sort();
  assert.equal(packages(outside('src/db/')), []);
  assert.equal(packages(SRC), ['mysql2']);
  assert.equal(findAll(SRC, /\bimport\(\w+\)/g), [
    'src/otp/channels/email.ts: import(PACKAGE)',
  ]);
});

test('one file wires the service', () => {
  assert.equal(findAll(SRC, /(?<!function )\bcreateOtpService\(/g),
    ['src/app/serve.ts: createOtpService(']);
});

test('one function writes responses', () => {
  const others = outside('src/http/response.ts', 'src/app/output.ts');
  assert.equal(findAll(others, /\.(writeHead|setHeader|write)\(/g), []);
});

test('one table maps outcomes to statuses', () => {
  const statuses = /\b(20[0-4]|30[0-8]|4(0\d|1\d|2[1-9]|31)|50[1-5])\b/g;
  // The answers of providers are judged in one place, too.
  const others = outside('src/http/response.ts', 'src/otp/channels/http-client.ts',
    'src/otp/policy/policy.ts', 'src/db/');
  assert.equal(findAll(others, statuses), []);
});

test('one file reads the environment', () => {
  assert.equal(findAll(outside('src/app/config/config.ts'), /process\.env\b/g), []);
});

test('one file draws random values', () => {
  // The command that otpd prints draws its value in a shell.
  const random = new RegExp(String.raw`(?<!node -p 'crypto\.)\b(randomBytes|randomInt|randomUUID|`
    + String.raw`randomFillSync|getRandomValues)\b`, 'g');
  assert.equal(findAll(outside('src/otp/crypto/random.ts'), random), []);
});

test('decisions know no clock but that of the database', () => {
  // The doctor compares the clock of the machine, the log has its time, and API keys end by it.
  const others = outside('src/app/log/log.ts');
  assert.equal(findAll(others, /Date\.now|new Date\(\)|hrtime|SYSDATE/g), []);
  const readers = SRC.filter((source) =>
    importsOf(source).some(({ names }) => names.includes('readHostClock')));
  assert.equal(readers.map(({ path }) => path),
    ['src/app/cli/doctor/doctor.ts', 'src/app/serve.ts']);
  assert.equal(findAll(outside('src/db/clock.ts'), /performance\./g), []);
  assert.equal(findAll(SRC, /\bSET timestamp\b/gi), []);
});

test('SQL stands under src/db only', () => {
  const sql = /\b(SELECT .* FROM|INSERT (IGNORE )?INTO|UPDATE \w+ SET|DELETE FROM|COMMIT\b')/g;
  assert.equal(findAll(outside('src/db/'), sql), []);
});

test('one function writes the deprecated VALUES(column)', () => {
  assert.equal(findAll(SRC, /\bVALUES\(/g), ['src/db/query.ts: VALUES(']);
});

test('db knows no duration of a rule', () => {
  const durations = SRC.filter(({ path }) => path.startsWith('src/db/'))
    .flatMap(exportsOf).filter((name) => name.endsWith('_SECONDS'));
  assert.equal(durations, []);
});

/** What must not be written, and what to use instead. */
const BANS: [RegExp, string][] = [
  [/Math\.random/g, 'node:crypto'],
  [/(?<!\/)console\.\w+/g, 'print, or the log'],
  [/setInterval/g, 'work that is done by requests'],
  [/GET_LOCK/g, 'row locks'],
  [/\bROW\(|VALUES ROW/g, 'joinKeys, or a list of keys after IN'],
  [/ AS new ON DUPLICATE/g, 'orUpdate'],
  [/DELETE \w+ FROM/g, 'deleteFrom'],
  [/\bLATERAL\b/g, 'a scalar subquery in a derived table'],
  [/FOR (UPDATE|SHARE) OF\b/g, 'FOR UPDATE, with one table that has rows'],
  [/TEMPORARY TABLE|CREATE (TRIGGER|PROCEDURE|FUNCTION)/g, 'plain statements'],
  [/insecureHTTPParser/g, 'the strict parser'],
  [/\b(TODO|FIXME|XXX|HACK)\b/g, 'an issue'],
  [/@ts-(ignore|nocheck|expect-error)/g, 'a right type'],
  [/\bas any\b|: any\b/g, 'unknown'],
];

for (const [pattern, instead] of BANS) {
  test(`src does not contain ${pattern.source} (use ${instead})`, () => {
    const texts = SRC.map((source) => ({ ...source, code: source.text }));
    assert.equal(findAll(texts, pattern), []);
  });
}

test('no test is skipped or focused, and none sleeps', () => {
  const tests = TESTS.filter(({ path }) => path !== 'test/style.test.ts');
  assert.equal(findAll(tests, /\.(skip|only)\(|setTimeout\([^,]+, *[0-9]{3,}\)|\bsleep\(/g), []);
});

/** Words of a register that the project does not use. */
const BANNED_WORDS = /\b(anew|whoever|is told|beside|so many|shall|so long|lately)\b/gi;

test('code, comments and documents avoid the banned words', () => {
  const documents = filesUnder('docs', '.md').concat(filesUnder('schema', '.sql'), 'README.md',
    'ARCHITECTURE.md', 'CONTRIBUTING.md').map(readSource);
  const found = [...SRC, ...TOOLS, ...SHARED, ...TESTS, ...documents]
    .filter(({ path }) => path !== 'test/style.test.ts')
    .flatMap(({ path, lines }) => lines.flatMap((line, index) =>
      [...line.matchAll(BANNED_WORDS)].map(([word]) => `${path}:${index + 1}: ${word}`)));
  assert.equal(found, []);
});

function filesUnder(folder: string, ending: string): string[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(ending))
    .map((name) => `${folder}/${name}`);
}

test('every module begins with a comment, and few comments only restate a name', () => {
  const silent = [...SRC, ...TOOLS].filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text));
  assert.equal(silent.map(({ path }) => path), []);
  const short = SRC.flatMap(({ path, text }) => [...text.matchAll(/\/\*\* (.*?) \*\//g)]
    .filter(([, words]) => words!.length <= SHORT_DOC_CHARACTERS)
    .map(([comment]) => `${path}: ${comment}`));
  assert.ok(short.length <= SHORT_DOCS_MAX, short.join('\n'));
});

test('a schema file keeps times as DATETIME(6) and begins with a header in prose', () => {
  for (const name of readdirSync(join(ROOT, 'schema'))) {
    const text = readFileSync(join(ROOT, 'schema', name), 'utf8');
    assert.match(text, /^-- \w+: .+\n--\n/, name);
    const sql = text.replace(/^--.*$/gm, '').replace(/UTC_TIMESTAMP\(6\)/g, '');
    assert.not.match(sql, /\bTIMESTAMP\b|DATETIME(?!\(6\))|\bNOW\(\)|FLOAT|DOUBLE/i, name);
  }
});

test('mysql2 is the one runtime dependency, and the lock file records no address', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  assert.equal(Object.keys(manifest.dependencies), ['mysql2']);
  // With nodemailer as a peer, npm would report `npm i nodemailer` as done and install nothing.
  assert.equal([manifest.peerDependencies, manifest.optionalDependencies], [undefined, undefined]);
  assert.not.match(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'), /"resolved"/);
});

const TRACKED = 'git tracks no data, no build and no secret';

if (canRun(TRACKED, existsSync(join(ROOT, '.git')), 'this is no clone')) {
  test(TRACKED, () => {
    const files = execFileSync('git', ['ls-files'], { cwd: ROOT, encoding: 'utf8' }).split('\n');
    const unwanted = /^(node_modules|dist|test-record|\.otpd|bench\/results)\/|^\.env$/;
    assert.equal(files.filter((name) => unwanted.test(name)), []);
  });
}

test.run();
