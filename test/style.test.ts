/** The style of the project as tests: what may import what, and what stands in one place only. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ROOT } from './harness/program.ts';

/** A ratchet: lower them when the code allows it, never raise them. */
const FILE_LINES_MAX = 200;
const FUNCTION_LINES_MAX = 60;
const LINE_COLUMNS_MAX = 100;

type Source = Readonly<{ path: string; text: string; code: string; lines: string[] }>;

function sourcesOf(folder: string): Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readSource(join(folder, name)));
}

function readSource(path: string): Source {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^(\s*)\/\/.*$/gm, '$1');
  return { path, text, code, lines: text.split('\n') };
}

const SRC = sourcesOf('src');
const TESTS = sourcesOf('test');

/** Every place where a pattern stands in code, comments left out. */
function findAll(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ path, code }) =>
    [...code.matchAll(pattern)].map(([found]) => `${path}: ${found}`));
}

function outside(...paths: string[]): Source[] {
  return SRC.filter(({ path }) => !paths.some((prefix) => path.startsWith(prefix)));
}

function importsOf({ code }: Source): string[] {
  return [...code.matchAll(/\bfrom '([^']+)'|\bimport\('([^']+)'\)|^import '([^']+)'/gm)]
    .map(([, a, b, c]) => (a ?? b ?? c)!);
}

/** src/db/pool.ts is of db; src/main.ts of main. */
function layerOf(path: string): string {
  const [, layer = '', rest] = path.split('/');
  return rest === undefined ? 'main' : layer;
}

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  main: ['main', 'http', 'otp', 'db'],
  http: ['http', 'otp', 'db'],
  otp: ['otp', 'db'],
  db: ['db'],
};

test('arrows only go down: main, http, otp, db', () => {
  const wrong: string[] = [];
  for (const source of SRC) {
    for (const target of importsOf(source).filter((name) => name.startsWith('.'))) {
      const path = relative(ROOT, join(ROOT, dirname(source.path), target));
      if (!MAY_IMPORT[layerOf(source.path)]?.includes(layerOf(path))) {
        wrong.push(`${source.path} imports ${path}`);
      }
    }
  }
  assert.equal(wrong, []);
});

test('http knows of db only that it can be unavailable and how to count, nothing of tables', () => {
  const names = SRC.filter(({ path }) => path.startsWith('src/http/'))
    .flatMap(importsOf).filter((name) => name.includes('/db/') && !name.includes('/metrics/'));
  assert.equal([...new Set(names)], ['../db/unavailable.ts']);
});

test('the statements know nothing of the private server, nor it of them', () => {
  const local = SRC.filter(({ path }) => path.startsWith('src/db/local/'));
  assert.equal(local.flatMap(importsOf).filter((name) => name.startsWith('../')), []);
  // The doctor judges the version of any server, as whoever starts a private one does.
  const rest = SRC.filter(({ path }) => /^src\/(db\/[^/]+|otp\/.*|http\/.*)$/.test(path)
    && !path.startsWith('src/otp/commands/doctor/'));
  assert.equal(rest.flatMap(importsOf).filter((name) => name.includes('/local/')), []);
});

test('mysql2 is imported by db alone, nodemailer when it is needed, no other package', () => {
  const packages = (sources: readonly Source[]) => [...new Set(sources.flatMap(importsOf)
    .filter((name) => !name.startsWith('.') && !name.startsWith('node:')))].sort();
  assert.equal(packages(outside('src/db/')), []);
  assert.equal(packages(SRC), ['mysql2']);
  assert.equal(findAll(SRC, /\bimport\(\w+\)/g), [
    'src/otp/channels/nodemailer.ts: import(PACKAGE)',
  ]);
});

test('one file wires everything: only serve.ts imports from all layers', () => {
  const wiring = SRC.filter((source) => {
    const layers = importsOf(source).map((name) => /^\.\/(http|otp|db)\//.exec(name)?.[1]);
    return new Set(layers.filter((layer) => layer !== undefined)).size === 3
      && source.code.includes('createOtpService(');
  });
  assert.equal(wiring.map(({ path }) => path), ['src/serve.ts']);
});

test('one function writes responses', () => {
  const others = outside('src/http/respond.ts', 'src/terminal.ts');
  assert.equal(findAll(others, /\.(writeHead|setHeader|write)\(/g), []);
});

test('one table maps outcomes to statuses', () => {
  const statuses = /\b(20[0-4]|30[0-8]|4(0\d|1\d|2[1-9]|31)|50[1-5])\b/g;
  // What providers answer is judged in one place, too.
  const others = outside('src/http/status.ts', 'src/otp/channels/http-verdict.ts',
    'src/otp/policy.ts', 'src/db/');
  assert.equal(findAll(others, statuses), []);
});

test('one reader of the environment', () => {
  assert.equal(findAll(outside('src/config.ts'), /process\.env\b/g), []);
});

test('no clock but the database\'s', () => {
  // The doctor judges the clock of this machine, and the log has its time; nothing else reads it.
  const others = outside('src/host-clock.ts');
  assert.equal(findAll(others, /Date\.now|new Date\(\)|hrtime|SYSDATE/g), []);
  assert.equal(SRC.filter((source) => importsOf(source).includes('./host-clock.ts'))
    .map(({ path }) => path), ['src/examine.ts', 'src/log.ts']);
  // It measures how long ago the database's was read, and has no date of its own.
  assert.equal(findAll(outside('src/db/running-clock.ts'), /performance\./g), []);
  assert.equal(findAll(SRC, /\bSET timestamp\b/gi), []);
});

test('SQL only under src/db', () => {
  const sql = /\b(SELECT .* FROM|INSERT (IGNORE )?INTO|UPDATE \w+ SET|DELETE FROM|COMMIT\b')/g;
  assert.equal(findAll(outside('src/db/'), sql), []);
});

/** What must not be written, and what to use instead. */
const BANS: [RegExp, string][] = [
  [/Math\.random/g, 'node:crypto'],
  [/console\.\w+/g, 'say, or the log'],
  [/setInterval/g, 'work that is done by requests'],
  [/GET_LOCK/g, 'row locks'],
  [/insecureHTTPParser/g, 'the strict parser'],
  [/\b(TODO|FIXME|XXX|HACK)\b/g, 'an issue'],
  [/@ts-(ignore|nocheck|expect-error)/g, 'a right type'],
  [/\bas any\b|: any\b/g, 'unknown'],
];

for (const [pattern, instead] of BANS) {
  test(`banned: ${pattern.source} (use ${instead})`, () => {
    const texts = SRC.map((source) => ({ ...source, code: source.text }));
    assert.equal(findAll(texts, pattern), []);
  });
}

test('no skipped or focused test, no sleep', () => {
  const tests = TESTS.filter(({ path }) => path !== 'test/style.test.ts');
  assert.equal(findAll(tests, /\.(skip|only)\(|setTimeout\([^,]+, *[0-9]{3,}\)|\bsleep\(/g), []);
});

test(`lines of at most ${LINE_COLUMNS_MAX} columns`, () => {
  const long = [...SRC, ...TESTS].flatMap(({ path, lines }) => lines.flatMap((line, index) =>
    ([...line].length > LINE_COLUMNS_MAX ? [`${path}:${index + 1}`] : [])));
  assert.equal(long, []);
});

test(`files of at most ${FILE_LINES_MAX} lines`, () => {
  const long = SRC.filter(({ lines }) => lines.length > FILE_LINES_MAX + 1);
  assert.equal(long.map(({ path, lines }) => `${path}: ${lines.length}`), []);
});

test(`functions of at most ${FUNCTION_LINES_MAX} lines`, () => {
  const long: string[] = [];
  for (const { path, lines } of SRC) {
    lines.forEach((line, start) => {
      const head = /^(\s*)(export |static |async )*(function\b|#?\w+\(.*\{$)/.exec(line);
      if (head === null) return;
      const end = lines.findIndex((other, index) => index > start && other === `${head[1]}}`);
      if (end - start > FUNCTION_LINES_MAX) long.push(`${path}:${start + 1}: ${end - start}`);
    });
  }
  assert.equal(long, []);
});

test('every file of src says what it is for, every exported function what it does', () => {
  const silent = SRC.filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text)).map(({ path }) => path);
  for (const { path, lines } of SRC) {
    lines.forEach((line, index) => {
      const isExported = /^export (async )?function /.test(line) || /^export class /.test(line);
      if (isExported && !lines[index - 1]?.endsWith('*/')) silent.push(`${path}:${index + 1}`);
    });
  }
  assert.equal(silent, []);
});

test('no dead file: everything in src is reached from main.ts', () => {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    const source = SRC.find((other) => other.path === path);
    for (const name of source === undefined ? [] : importsOf(source)) {
      if (name.startsWith('.')) visit(join(dirname(path), name));
    }
  };
  visit('src/main.ts');
  assert.equal(SRC.map(({ path }) => path).filter((path) => !reached.has(path)), []);
});

test('the README has a sentence for every file of src and schema', () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const schema = readdirSync(join(ROOT, 'schema')).map((name) => `schema/${name}`);
  const missing = [...SRC.map(({ path }) => path), ...schema]
    .filter((path) => !readme.includes(`\`${path}\` |`));
  assert.equal(missing, []);
});

test('the schema keeps times as DATETIME(6) and has a prose header in every file', () => {
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
  // Named as a peer, npm would take `npm i nodemailer` for done, and install nothing.
  assert.equal([manifest.peerDependencies, manifest.optionalDependencies], [undefined, undefined]);
  assert.not.match(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'), /"resolved"/);
});

test('what is tracked is what a user needs: no data, no build, no secret', () => {
  if (!existsSync(join(ROOT, '.git'))) return;
  const files = execFileSync('git', ['ls-files'], { cwd: ROOT, encoding: 'utf8' }).split('\n');
  const unwanted = /^(node_modules|dist|test-record|\.otpd)\/|^\.env$/;
  assert.equal(files.filter((name) => unwanted.test(name)), []);
});

test.run();
