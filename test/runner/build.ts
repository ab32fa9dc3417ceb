/** Compiles src, tools and test for the tests, and computes a digest of the result. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD_FOLDER, ROOT } from '../harness/program.ts';
import { runNode } from './program.ts';

/** What otpd and the tools read, next to src, and the client, which tests import. */
const DATA = ['schema', 'messages', 'openapi.json', 'package.json', 'client',
  'pages', 'tools/try-out/page.html'] as const;

/** Checks the types and compiles; resolves with the errors of the compiler. */
export async function compile(): Promise<string> {
  rmSync(BUILD_FOLDER, { recursive: true, force: true });
  mkdirSync(BUILD_FOLDER);
  const { code, output } = await runNode([
    join(ROOT, 'node_modules/.bin/tsc'),
    '--noEmit', 'false', '--rootDir', '.', '--outDir', BUILD_FOLDER, '--sourceMap',
  ]);
  for (const name of DATA) symlinkSync(join(ROOT, name), join(BUILD_FOLDER, name));
  return code === 0 ? '' : output;
}

/** A digest of the compiled files: two lanes with the same digest ran the same code. */
export function buildDigest(): string {
  const hash = createHash('sha256');
  const names = readdirSync(BUILD_FOLDER, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js')).sort();
  for (const name of names) hash.update(`${name}\n`).update(readFileSync(join(BUILD_FOLDER, name)));
  return hash.digest('hex');
}
