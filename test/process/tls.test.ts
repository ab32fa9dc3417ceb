/** TLS of real processes: the files, their errors and SIGHUP, with one process and with workers. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readServeConfig } from '../../src/app/config/config.ts';
import { recordAnswer } from '../harness/answer-recorder.ts';
import { createCertificate } from '../harness/certificate.ts';
import { newVariables, runCommand, variablesFor } from '../harness/command.ts';
import { startOtpd } from '../harness/otpd.ts';
import type { Otpd } from '../harness/otpd.ts';
import { eventually } from '../harness/waiting.ts';

const HOST = '127.0.0.1';
const RELOADED = /"event":"reloaded","name":"TLS_CERT and TLS_KEY"/g;
const FAILED = /"event":"reload_failed","name":"TLS_CERT and TLS_KEY","message":"[^"]*"/g;

const folder = mkdtempSync(join(tmpdir(), 'otpd-tls-'));
const files = { TLS_CERT: join(folder, 'cert.pem'), TLS_KEY: join(folder, 'key.pem') };
let trusted = '';

test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Replaces the files that otpd reads, and makes the client trust the new certificate. */
function install(serial: string): void {
  const { cert, key } = createCertificate({ serial });
  writeFileSync(files.TLS_CERT, cert);
  writeFileSync(files.TLS_KEY, key);
  trusted = cert;
}

type Reply = Readonly<{ status: number; text: string; serial: string }>;

/** Posts on a connection of the agent, or on a new one. */
function post(port: number, path: string, body: object, agent = newAgent()): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': 'k' };
    const sent = request({ host: HOST, port, path, method: 'POST', headers, agent }, (answer) => {
      const socket = answer.socket as TLSSocket;
      const serial = socket.getPeerCertificate().serialNumber;
      let text = '';
      answer.on('data', (chunk: Buffer) => { text += chunk.toString(); });
      answer.on('end', () => {
        const status = answer.statusCode ?? 0;
        recordAnswer({ request: { method: 'POST', target: path }, status,
          headers: answer.rawHeaders, body: text }, JSON.stringify(body));
        resolve({ status, text, serial });
      });
    });
    sent.on('error', reject).end(JSON.stringify(body));
  });
}

function newAgent(keepAlive = false): Agent {
  return new Agent({ keepAlive, ca: trusted, maxCachedSessions: 0 });
}

const NOBODY = { user_id: 'nobody', purpose: 'login', code: '123456' };

function countOf(otpd: Otpd, pattern: RegExp): number {
  return otpd.output().match(pattern)?.length ?? 0;
}

/** Covers requests, replaced files and an invalid pair of files. */
async function tryCertificates(otpd: Otpd, processes: number): Promise<void> {
  const { port } = otpd;
  await otpd.prints(`otpd answers on https://${HOST}:${port}`);
  await otpd.prints(`curl -i https://${HOST}:${port}/otp/request`);
  const kept = newAgent(true);
  const user = { user_id: 'U1', purpose: 'login' };
  const issued = await post(port, '/otp/request', user, kept);
  assert.equal([issued.status, issued.serial], [201, '0A']);
  await eventually('the code is printed', () => otpd.codes().length === 1);
  const [code] = otpd.codes();
  assert.is((await post(port, '/otp/verify', { ...user, code })).status, 200);

  install('0b');
  otpd.signal('SIGHUP');
  await eventually('every process has reloaded', () => countOf(otpd, RELOADED) === processes);
  for (let each = 0; each < 4; each += 1) {
    assert.is((await post(port, '/otp/verify', NOBODY)).serial, '0B');
  }
  assert.is((await post(port, '/otp/verify', NOBODY, kept)).serial, '0A');

  writeFileSync(files.TLS_KEY, createCertificate().key);
  otpd.signal('SIGHUP');
  await eventually('every process has refused the pair', () => countOf(otpd, FAILED) === processes);
  await otpd.prints(`TLS_KEY ${files.TLS_KEY}: is not the key of the first`);
  assert.is((await post(port, '/otp/verify', NOBODY)).serial, '0B');
  assert.is((await post(port, '/otp/verify', NOBODY, kept)).serial, '0A');
  kept.destroy();
}

for (const WORKERS of ['1', '2']) {
  test(`a certificate is replaced while otpd serves over TLS with WORKERS=${WORKERS}`, async () => {
    install('0a');
    const otpd = await startOtpd(await newVariables({ ...files, WORKERS }));
    try {
      await tryCertificates(otpd, Number(WORKERS));
    } finally {
      otpd.stop();
    }
    assert.is(await otpd.ended, 0);
    assert.not.match(otpd.output(), 'PRIVATE KEY');
  });
}

/** A key with a passphrase, which otpd cannot ask for. */
function encryptedKey(): string {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
    type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x',
  }) as string;
}

test('every invalid certificate or key is an error with the variable and the file', () => {
  const database = variablesFor('unused');
  const { cert, key } = createCertificate();
  const path = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const [goodCert, goodKey] = [path('good.pem', cert), path('good-key.pem', key)];
  const wrong: [string, string, string][] = [
    [goodCert, '', 'TLS_CERT and TLS_KEY must be set together'],
    ['', goodKey, 'TLS_CERT and TLS_KEY must be set together'],
    ['/nowhere.pem', goodKey, 'TLS_CERT names a file that cannot be read (ENOENT): /nowhere.pem'],
    [goodCert, folder, `TLS_KEY names a file that cannot be read (EISDIR): ${folder}`],
    [goodKey, goodKey, `TLS_CERT ${goodKey}: is not a PEM certificate`],
    [goodCert, goodCert, `TLS_KEY ${goodCert}: is not a PEM private key without a passphrase`],
    [goodCert, path('locked.pem', encryptedKey()),
      `TLS_KEY ${join(folder, 'locked.pem')}: is not a PEM private key without a passphrase`],
    [goodCert, path('other.pem', createCertificate().key), `TLS_KEY ${join(folder, 'other.pem')
    }: is not the key of the first certificate in TLS_CERT ${goodCert}`],
  ];
  for (const [TLS_CERT, TLS_KEY, fault] of wrong) {
    assert.throws(() => readServeConfig({ ...database, PORT: 'x', TLS_CERT, TLS_KEY }),
      ({ message }: Error) => message.startsWith('the configuration is invalid:\n  PORT must')
        && message.endsWith(`\n  ${fault}`), fault);
  }
  const chain = path('chain.pem', cert + createCertificate({ address: '127.0.0.2' }).cert);
  assert.is(readServeConfig({ ...database, TLS_CERT: chain, TLS_KEY: goodKey })
    .certificate?.certFile, chain);
  const torn = path('torn.pem', `${cert}-----BEGIN CERTIFICATE-----\nAAAA\n`);
  assert.throws(() => readServeConfig({ ...database, TLS_CERT: torn, TLS_KEY: goodKey }),
    ({ message }: Error) => message.includes(`TLS_CERT ${torn}: cannot be used (`));
  assert.is(readServeConfig(database).certificate, null);
});

test('an invalid pair of files stops the start before anything is opened', async () => {
  install('0c');
  const other = variablesFor('unused', { ...files, TLS_KEY: files.TLS_CERT });
  const { status, out, err } = await runCommand(['serve'], other);
  assert.equal([status, out], [1, '']);
  assert.is(err, 'otpd: the configuration is invalid:\n'
    + `  TLS_KEY ${files.TLS_CERT}: is not a PEM private key without a passphrase\n`);
});

test.run();
