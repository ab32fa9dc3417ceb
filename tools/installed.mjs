/**
 * The npm scripts import this file first: a Node.js that is too old, or a working copy without its
 * packages, is one line that says what to do. So it imports no package and no TypeScript.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const needed = engines.node.replace('>=', '');
const found = process.versions.node;

function end(message) {
  process.stderr.write(`otpd: ${message}\n`);
  process.exit(1);
}

if (found.localeCompare(needed, 'en', { numeric: true }) < 0) {
  end(`Node.js ${found} is too old; install ${needed} or later`);
}
try {
  createRequire(import.meta.url).resolve('tsx');
} catch {
  end('packages are missing; run npm ci first');
}
