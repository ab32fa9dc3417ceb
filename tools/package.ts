/**
 * `npm run package`: builds otpd and packs it for npm, as otpd-VERSION.tgz in the project. An
 * earlier build is removed first, so that the package has no file of it. npm would not build by
 * itself, because .npmrc turns scripts off.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COMPILER = join(ROOT, 'node_modules/typescript/bin/tsc');

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
const options = { cwd: ROOT, stdio: 'inherit' } as const;
execFileSync(process.execPath, [COMPILER, '-p', 'tsconfig.build.json'], options);
execFileSync('npm', ['pack', '--loglevel=warn'], options);
