/** The npm scripts in a new clone: one line instead of a stack while packages are missing. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ROOT } from '../../harness/program.ts';

type Package = { engines: { node: string }; scripts: Readonly<Record<string, string>> };

const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Package;

/** What each npm script prints in a folder with this package.json and no packages. */
function outputsOf(content: Package): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-clone-'));
  try {
    mkdirSync(join(folder, 'tools'));
    cpSync(join(ROOT, 'tools/installed.mjs'), join(folder, 'tools/installed.mjs'));
    writeFileSync(join(folder, 'package.json'), JSON.stringify(content));
    return Object.entries(content.scripts).map(([name, script]) => {
      const { status, stdout, stderr } = spawnSync('sh', ['-c', script], {
        cwd: folder, encoding: 'utf8', env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` },
      });
      return `${name} ${status}: ${stdout}${stderr}`;
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('every npm script without its packages says to run npm ci', () => {
  // The image is built without tools/, after npm ci.
  const { build: _, ...scripts } = PACKAGE.scripts;
  assert.equal(outputsOf({ ...PACKAGE, scripts }), Object.keys(scripts).map((name) =>
    `${name} 1: otpd: packages are missing; run npm ci first\n`));
});

test('an npm script on a Node.js that is too old names the version to install', () => {
  const scripts = { start: PACKAGE.scripts.start! };
  const { node } = process.versions;
  for (const needed of ['99.0.0', node.replace(/^\d+/, (major) => `${major}9`)]) {
    assert.equal(outputsOf({ scripts, engines: { node: `>=${needed}` } }),
      [`start 1: otpd: Node.js ${node} is too old; install ${needed} or later\n`]);
  }
  // Numbers are compared as numbers: 9.99.9 is older than this one.
  assert.match(outputsOf({ scripts, engines: { node: '>=9.99.9' } })[0]!, 'run npm ci first');
});

test.run();
