/** The schema files: their digests, and their headers. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SCHEMA_FOLDER } from '../../src/db/migrate.ts';

/** SHA-256 of each file. A change of the schema adds a file and a line here. */
const DIGESTS = {
  '0001-schema-migrations.sql':
    '59aafa848f94b41a73653394e49449648291e558fb1921899da194c16bc725c7',
  '0002-ip-rate-limits.sql':
    '5c8d948042a9456e3fd1edf4b3273d2923b27615331faa3639ddbd38c506c9aa',
  '0003-ip-rate-overflow.sql':
    '83c106da9e24f67a726255897967c2fa6650660ce39aa620760b46c52819083b',
  '0004-limit-hits.sql':
    '8ffe19260ca64ea080704cdeac6fffdbe34a40bb6b32333375bc5297a8e9672d',
  '0005-otps.sql':
    '275a882bc97aaf283efba159611c5b408a8c22422e3512b44636163ac4e58c43',
  '0006-idempotency-keys.sql':
    '785886c1221b49e98625b507d6354d80e47e27736e8e65eb0f7ae7adb015d8c5',
  '0007-outbox.sql':
    '788e302e1cbad1b1d04fa169657ee8df4bac0052eab8f31f5786e90634edd1a8',
  '0008-otps-api-client.sql':
    '828650b8228584203300a20b217e099967ad1b62cbb25bdd168cde27c8a22ab1',
  '0009-wrong-counts.sql':
    '51d83129f7c120ef8f9b76c079bde9db970274928f638c41669926c057f4070a',
  '0010-write-checks.sql':
    '02a940cd12bf10478fba305def9264f165e70c7d44fae508efba5b888c419012',
  '0011-otps-failure.sql':
    '6667ed5f007e69e7c4c54aab8a95e8023346fdd5a99cdad1353299f0ca4cb506',
  '0012-otps-device.sql':
    '72db7fa0ed6c6a50790e71c822cdce06e7f799d58721908195fae864b28f5f95',
  '0013-device-revocations.sql':
    '3c00e3c6daf589ada735c2e76fc69bf708fce576050d38798eebe28b772a6a69',
};

const TEXTS = new Map(readdirSync(SCHEMA_FOLDER)
  .map((name) => [name, readFileSync(join(SCHEMA_FOLDER, name), 'utf8')]));

test('the schema files have not changed', () => {
  const digests = [...TEXTS].map(([name, text]) =>
    [name, createHash('sha256').update(text).digest('hex')]);
  assert.equal(Object.fromEntries(digests), DIGESTS);
});

test('each table is dynamic InnoDB, and its header describes every column in order', () => {
  for (const [name, text] of TEXTS) {
    const create = /CREATE TABLE [^(]*\(\n([^]*?)\n\)(.*);\n/.exec(text);
    if (create === null) continue;
    const [, body, options] = create;
    assert.is(options, ' ENGINE=InnoDB ROW_FORMAT=DYNAMIC', name);
    const columns = [...body!.matchAll(/^ {2}([a-z_]+) /gm)].map(([, column]) => column);
    const described = [...text.matchAll(/^-- ([a-z_]+): /gm)].map(([, column]) => column).slice(1);
    assert.equal(described, columns, name);
  }
});

test('an ALTER TABLE adds columns or keys, which not every engine does at once', () => {
  for (const [name, text] of TEXTS) {
    for (const [statement] of text.replace(/^--.*$/gm, '').matchAll(/ALTER TABLE [^;]*/g)) {
      const kinds = /ADD COLUMN/.test(statement)
        && /(ADD|DROP) (UNIQUE |PRIMARY )?(KEY|INDEX|CONSTRAINT)/.test(statement);
      assert.not(kinds, `${name}: ${statement}`);
    }
  }
});

test.run();
