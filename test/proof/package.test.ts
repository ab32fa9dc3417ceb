/** The package that npm installs: what it contains, and that it runs in a clean folder. */
import { spawnSync } from 'node:child_process';
import {
  cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post } from '../harness/client.ts';
import { variablesFor } from '../harness/command.ts';
import { newDatabaseName } from '../harness/database.ts';
import { recordVisible } from '../harness/leak-recorder.ts';
import { ROOT, SHELL } from '../harness/program.ts';
import { endAll, finish, portOf, request, start, until } from '../harness/run.ts';

const root = realpathSync(mkdtempSync(join(tmpdir(), 'otpd-package-')));
/** A copy of the project, because packing builds it. */
const project = join(root, 'project');
/** The folder of somebody who installs the package. */
const user = join(root, 'user');
const installed = join(user, 'node_modules/otpd');

/** Runs a program that must succeed; returns its standard output. */
function run(cwd: string, program: string, ...parameters: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, parameters,
    { cwd, env: SHELL, encoding: 'utf8' });
  recordVisible(stdout + stderr);
  assert.is(status, 0, stdout + stderr);
  return stdout;
}

/** The files below a folder, without those of its packages. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((name) => !name.startsWith('node_modules/'));
}

/** Copies the packages that otpd needs, so that the installation needs no network. */
function copyPackages(): void {
  const listed = run(ROOT, 'npm', 'ls', '--omit=dev', '--all', '--parseable');
  for (const path of listed.trim().split('\n').slice(1)) {
    const target = join(user, relative(ROOT, path));
    mkdirSync(dirname(target), { recursive: true });
    cpSync(path, target, { recursive: true });
  }
}

test.before(() => {
  mkdirSync(project);
  const unwanted = new Set(['.git', 'node_modules', '.test-build', 'dist', 'test-record', '.otpd']);
  for (const name of readdirSync(ROOT)) {
    if (!unwanted.has(name)) cpSync(join(ROOT, name), join(project, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(project, 'node_modules'));
  mkdirSync(join(project, 'dist'));
  writeFileSync(join(project, 'dist/stale.js'), '');
  writeFileSync(join(project, '.env'), 'DB_PASSWORD=hush\n');
  run(project, process.execPath, '--import', 'tsx', 'tools/package.ts');
  mkdirSync(user);
  copyPackages();
  const [archive = ''] = readdirSync(project).filter((name) => name.endsWith('.tgz'));
  run(user, 'npm', 'install', '--offline', '--no-audit', '--no-fund', join(project, archive));
});

test.after(() => {
  closeClient();
  endAll();
  rmSync(root, { recursive: true, force: true });
});

test('the package has what otpd needs at run time, the documentation, and nothing else', () => {
  const files = filesIn(installed);
  for (const name of ['dist/main.js', 'openapi.json', 'pages/support.html', 'package.json',
    'LICENSE', 'README.md',
    'CHANGELOG.md', 'SECURITY.md', '.env.example', 'docs/api.md', 'docs/policy.md']) {
    assert.ok(files.includes(name), name);
  }
  for (const folder of ['schema', 'messages']) {
    const names = filesIn(join(ROOT, folder)).map((name) => `${folder}/${name}`);
    assert.equal(files.filter((name) => name.startsWith(`${folder}/`)).sort(), names.sort());
  }
  const sources = filesIn(join(ROOT, 'src')).map((name) => `dist/${name.replace(/ts$/, 'js')}`);
  assert.equal(files.filter((name) => name.startsWith('dist/')).sort(), sources.sort());
  const known = /^(dist\/.*\.js|(schema|messages|pages)\/[^/]+|docs\/[\w-]+\.md|[\w.]+)$/;
  assert.equal(files.filter((name) => !known.test(name)), []);
  assert.not.ok(existsSync(join(installed, '.env')));
});

test('otpd runs as a command of the package, and reads .env of the working folder', async () => {
  assert.match(run(user, 'npm', 'exec', '--offline', '--', 'otpd', 'help'),
    /^usage: otpd COMMAND\n {2}serve /);
  const variables = variablesFor(newDatabaseName());
  writeFileSync(join(user, '.env'),
    Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`).join(''));
  const command = join(user, 'node_modules/.bin/otpd');
  assert.match(run(user, command, 'migrate'), /schema files applied\n$/);
  const served = start(['serve'], {}, [command], user);
  const port = await portOf(served);
  assert.is((await request(port, 'U1', 'k')).status, 201);
  const code = await until(served, () => /message to U1: (\d{6})/.exec(served.output())?.[1]);
  const body = { user_id: 'U1', purpose: 'login', code };
  assert.is((await post({ port, path: '/otp/verify', body })).status, 200);
  served.child.kill('SIGTERM');
  assert.is(await finish(served), 0);
});

test.run();
