import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseSecrets } from '../../src/otp/crypto/secrets.ts';
import { readOrCreateSecretFile } from '../../tools/secret-file.ts';

test('the secret file is created once, complete, and readable by its owner only', () => {
  const folder = mkdtempSync(join(tmpdir(), 'otpd-secret-'));
  const path = join(folder, 'deep', 'secrets');
  const text = readOrCreateSecretFile(path);
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.ok('secrets' in parseSecrets(text));
  assert.is(readOrCreateSecretFile(path), text);
  assert.equal(readdirSync(join(folder, 'deep')), ['secrets']);
  assert.match(readFileSync(path, 'utf8'), /^local:/);
  writeFileSync(path, 'broken');
  assert.throws(() => readOrCreateSecretFile(path), /must be id:base64/);
  rmSync(folder, { recursive: true });
});

test.run();
