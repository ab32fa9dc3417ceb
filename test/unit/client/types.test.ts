/** The types of client/ hold its code, and a switch over the kinds of an outcome is complete. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as client from '../../../client/index.js';
import type { CancelOutcome, RequestOutcome, VerifyOutcome } from '../../../client/index.js';
import { readPage, rowsOf } from '../../harness/markdown.ts';
import { ROOT } from '../../harness/program.ts';
import { runNode } from '../../runner/program.ts';

test('the code of the client compiles against its declared types', async () => {
  const { code, output } = await runNode([
    join(ROOT, 'node_modules/.bin/tsc'), '-p', join(ROOT, 'client/tsconfig.json'),
  ]);
  assert.is(code, 0, output);
});

test('the package lists every file that its code imports', () => {
  const { files, exports } = JSON.parse(readFileSync(join(ROOT, 'client/package.json'), 'utf8'));
  const code = readdirSync(join(ROOT, 'client')).filter((name) => /\.(js|ts)$/.test(name)).sort();
  assert.equal(files.toSorted(), code);
  const named = Object.values<Record<string, string>>(exports).flatMap(Object.values);
  assert.equal(named.filter((path) => !code.includes(path.slice(2))), []);
});

test('the client exports what its types declare', () => {
  assert.equal(Object.keys(client), ['createClient']);
});

/** Compiles only while the union has these kinds. */
function words(outcome: RequestOutcome | VerifyOutcome | CancelOutcome): string {
  switch (outcome.kind) {
    case 'sent': return `${outcome.otpId} ${outcome.ttl} ${outcome.nextCodeInSeconds}`;
    case 'verified': return String(outcome.device);
    case 'invalid_code': return String(outcome.attemptsRemaining);
    case 'rate_limit_exceeded':
    case 'too_many_attempts': return String(outcome.retryAfterSeconds);
    case 'account_locked':
    case 'otp_not_found':
    case 'code_superseded':
    case 'code_used':
    case 'code_expired':
    case 'canceled': return outcome.kind;
    case 'unavailable': return outcome.reason;
    case 'failed': return `${outcome.error} ${outcome.field}`;
    case 'unknown': return String(outcome.status);
    default: return outcome satisfies never;
  }
}

test('the page of the client names every kind of outcome, and no other', () => {
  const declared = readFileSync(join(ROOT, 'client/index.d.ts'), 'utf8')
    .matchAll(/Outcome<'(\w+)'/g);
  const rows = rowsOf(readPage('docs/client.md'));
  const first = rows.findIndex(([cell]) => cell === 'kind');
  const last = rows.findIndex(([cell]) => cell === 'unknown');
  const named = rows.slice(first + 1, last + 1).flatMap(([cell]) => cell!.split(', '));
  assert.equal(named.sort(), [...new Set([...declared].map(([, kind]) => kind!))].sort());
});

test('the kind of an outcome says which members it has', () => {
  assert.is(words({ kind: 'invalid_code', attemptsRemaining: 2, requestId: null }), '2');
});

test.run();
