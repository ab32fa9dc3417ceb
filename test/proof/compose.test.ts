/**
 * The steps of compose.yaml without Docker: its variables, secrets, accounts and commands, and the
 * health check of the Dockerfile, on a MySQL that answers on TCP.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runCommand } from '../harness/command.ts';
import type { Variables } from '../harness/command.ts';
import { healthCheck, readCompose } from '../harness/deployment.ts';
import { freePort } from '../harness/free-port.ts';
import { startOtpd } from '../harness/otpd.ts';
import { ROOT, SHELL } from '../harness/program.ts';
import { newSecretsText } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { startDurableServer } from './durable-server.ts';
import type { DurableServer } from './durable-server.ts';

/** What a shell and SQL would read in another way. */
const PASSWORD = `it's \\ a $HOME "password"`;

const SECRETS: Record<string, string> = {
  root_password: PASSWORD, migrate_password: PASSWORD, db_password: PASSWORD,
  otp_secrets: newSecretsText(), api_keys: `app:request+verify:${'0'.repeat(64)}`,
  webhook_secrets: `whsec_${randomBytes(32).toString('base64')}`,
};

const folder = mkdtempSync(join(tmpdir(), 'otpd-compose-'));
const { services } = readCompose();

let server: DurableServer;
let port: number;

test.before(async () => {
  for (const [name, text] of Object.entries(SECRETS)) writeFileSync(join(folder, name), text);
  server = await startDurableServer();
  port = await freePort();
  await server.restartWith(
    [`--port=${port}`, '--bind-address=127.0.0.1', '--auto-generate-certs=ON',
      '--caching-sha2-password-auto-generate-rsa-keys=ON', ...services.mysql!.command!],
    ['--skip-networking', '--loose-auto-generate-certs=OFF',
      '--loose-caching-sha2-password-auto-generate-rsa-keys=OFF'],
  );
});
test.after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The variables of a service, with the addresses and the files of this test. */
function variablesOf(name: string): Variables {
  const set = Object.entries(services[name]!.environment).map(([variable, value]) =>
    [variable, String(value).replace('/run/secrets', folder)]);
  return { ...Object.fromEntries(set), DB_HOST: 'localhost', DB_PORT: String(port) };
}

/** The statements of deploy/compose/accounts.sh. */
function accountStatements(): string[] {
  const script = join(ROOT, 'deploy/compose/accounts.sh');
  const shell = 'set -eo pipefail; docker_process_sql() { cat; }; '
    + `source <(sed "s#/run/secrets#$1#" '${script}')`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', shell, 'bash', folder],
    { encoding: 'utf8' });
  assert.is(status, 0, stderr);
  return stdout.split(';\n').filter((line) => line !== '');
}

/** Runs the health check of the image; returns its exit code. */
async function checkHealth(adminPort: number): Promise<number | null> {
  const [, ...parameters] = healthCheck();
  const child = spawn(process.execPath, parameters,
    { env: { ...SHELL, ADMIN_PORT: String(adminPort) }, stdio: 'ignore' });
  const [code] = await once(child, 'close') as [number | null];
  return code;
}

test('the accounts, the migration, the service and its health check work in their order',
  async () => {
    const quoted = PASSWORD.replaceAll('\\', '\\\\').replaceAll("'", "''");
    // What the image of MySQL does with its variables.
    const { MYSQL_DATABASE, MYSQL_USER } = services.mysql!.environment;
    await server.database.query(`CREATE DATABASE ${MYSQL_DATABASE}`);
    await server.database.query(`CREATE USER ${MYSQL_USER}@'%' IDENTIFIED BY '${quoted}'`);
    await server.database.query(`GRANT ALL ON ${MYSQL_DATABASE}.* TO ${MYSQL_USER}@'%'`);
    for (const statement of accountStatements()) await server.database.query(statement);

    const early = await runCommand(['serve'], { ...variablesOf('otpd'), DELIVERY: 'console' });
    assert.is(early.status, 1);
    const refused = await runCommand(['migrate'], variablesOf('otpd'));
    assert.is(refused.status, 1, 'the account that serves creates no table');
    const migrated = await runCommand(services.migrate!.command!, variablesOf('migrate'));
    assert.is(migrated.status, 0, migrated.err);
    assert.is((await runCommand(services.migrate!.command!, variablesOf('migrate'))).status, 0);

    const otpd = await startOtpd({ ...variablesOf('otpd'), NODE_ENV: 'production',
      WEBHOOK_URL: 'https://messages.example.com/otp', ADMIN_HOST: '127.0.0.1' });
    try {
      await eventually('the health check succeeds',
        async () => await checkHealth(otpd.adminPort) === 0);
      // The server may end before it answers.
      await server.database.query('SHUTDOWN').catch(() => {});
      await eventually('the health check fails without MySQL',
        async () => await checkHealth(otpd.adminPort) === 1);
    } finally {
      otpd.stop();
      assert.is(await otpd.ended, 0);
    }
    assert.is(await checkHealth(otpd.adminPort), 1, 'otpd is down');
  });

test.run();
