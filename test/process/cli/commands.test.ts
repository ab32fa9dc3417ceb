/** The commands as processes: exit codes, one object or text, and no secret in the output. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseSecrets } from '../../../src/otp/crypto/secrets.ts';
import { closeClient, post } from '../../harness/client.ts';
import { objectOf, runCommand, variablesFor } from '../../harness/command.ts';
import { createTestDatabase, newDatabaseName } from '../../harness/database.ts';
import { secretsOf, startTestService } from '../../harness/service.ts';

test.after(closeClient);

test('help lists every command on standard output', async () => {
  for (const parameters of [['help'], ['--help'], ['-h'], ['serve', '--help'], ['show', '-h']]) {
    const { status, out, err } = await runCommand(parameters);
    assert.is(status, 0);
    assert.is(err, '');
    for (const command of ['serve', 'migrate', 'doctor', 'show USER', 'unlock USER [PURPOSE]',
      'cancel OTP_ID', 'secret new [ID]', 'help']) assert.match(out, `\n  ${command} `);
  }
});

const WRONG: [string[], RegExp][] = [
  [['sevre'], /^otpd: unknown command "sevre"; did you mean serve\?\n/],
  [['run'], /^otpd: unknown command "run"\n/],
  [['serve', '--port', '1'], /^otpd: unknown option "--port"; serve takes no options\n/],
  [['migrate', '--json'], /^otpd: unknown option "--json"; migrate takes no options\n/],
  [['doctor', '--txt'], /^otpd: unknown option "--txt"; did you mean --text\?\n/],
  [['secret', '--jsno', 'new'], /^otpd: unknown option "--jsno"; did you mean --json\?\n/],
  [['doctor', '--text=yes'], /^otpd: --text takes no value\n/],
  [['doctor', '--no-text'], /^otpd: unknown option "--no-text"; the options are --json and --text/],
  [['serve', 'now'], /serve takes no arguments/],
  [['show'], /show takes: USER\n/],
  [['show', ''], /show takes: USER\n/],
  [['show', 'U1', 'U2'], /show takes: USER\n/],
  [['show', '-x', 'U1'], /^otpd: unknown option "-x"; .* a value that begins with - follows --\n/],
  [['show', '--json', '--text', 'U1'], /exclude each other/],
  [['unlock'], /unlock takes: USER \[PURPOSE\]\n/],
  [['unlock', 'U1', 'login', 'pay'], /unlock takes: USER \[PURPOSE\]\n/],
  [['cancel', 'ABC'], /OTP_ID must be 32 hexadecimal digits/],
  [['doctor', 'now'], /doctor takes no arguments/],
  [['secret'], /secret takes: new \[ID\]/],
  [['secret', 'make'], /secret takes: new \[ID\]/],
  [['key', 'new', 'a', 'read', 'b'], /a RESTRICTION must be one of purposes=.* and not-after=/],
  [['key', 'new', 'a', 'read', 'x', 'y', 'z'], /key takes: new NAME \[SCOPES\]/],
  [['secret', 'new', 'a', 'b'], /secret takes: new \[ID\]/],
  [['secret', 'new', 'a:b'], /ID must be an id of 1 to 32 letters/],
];

for (const [parameters, message] of WRONG) {
  test(`otpd ${parameters.join(' ')} prints the usage and exits with 2`, async () => {
    const { status, out, err } = await runCommand(parameters);
    assert.is(status, 2);
    assert.is(out, '');
    assert.match(err, message);
    assert.match(err, /\nusage: otpd COMMAND\n/);
  });
}

test('secret new prints a different valid secret each time and how to rotate it', async () => {
  const texts = new Set<string>();
  for (const parameters of [[], [], ['k2'], ['--json', 'k2']]) {
    // The command does not read the configuration, so its errors do not matter.
    const ended = await runCommand(['secret', 'new', ...parameters], { DB_HOST: 'h', PORT: 'x' });
    assert.is(ended.status, 0);
    assert.match(ended.err, /^add it to OTP_SECRETS.*keep the old secret.*\n$/);
    const text = parameters.includes('--json') ? objectOf(ended).secret as string
      : ended.out.trimEnd();
    const parsed = parseSecrets(text);
    assert.ok('secrets' in parsed);
    const { id, key } = parsed.secrets.current;
    assert.match(id, parameters.length === 0 ? /^k[0-9a-f]{8}$/ : /^k2$/);
    assert.is(key.symmetricKeySize, 32);
    texts.add(text);
  }
  assert.is(texts.size, 4);
});

test('show, unlock and cancel print one object in a pipe and exit with 1 for unknown', async () => {
  const database = await createTestDatabase();
  const variables = variablesFor(database.settings.database!);
  const secrets = secretsOf(variables.OTP_SECRETS!);
  const service = await startTestService({ pool: database.pool, secrets });
  const body = { user_id: '--json', purpose: 'login' };
  const call = { port: service.port, path: '/otp/request', key: 'a', body };
  const { body: issued } = await post(call);
  const otpId = issued.otp_id as string;

  const shown = await runCommand(['show', '--', '--json'], variables);
  assert.is(shown.status, 0);
  assert.is(shown.err, '');
  const { outcome, user_id: userId, purposes: [login] } = objectOf(shown) as unknown as
    { outcome: string; user_id: string; purposes: { last_code: { otp_id: string } }[] };
  assert.equal([outcome, userId, login?.last_code.otp_id], ['known', '--json', otpId]);
  const text = await runCommand(['show', '--text', '--', '--json'], variables);
  assert.match(text.out,
    /^user --json at .*\naccount {5}0 of 100 .*\npurpose login\n {2}limit {5}2 of 3 codes left/);
  assert.not.match(text.out + shown.out, service.messages[0]!.code);

  const canceled = await runCommand(['cancel', otpId], variables);
  assert.is(canceled.status, 0);
  assert.equal(objectOf(canceled), { outcome: 'canceled', otp_id: otpId });
  const unlocked = await runCommand(['unlock', '--text', '--', '--json', 'login'], variables);
  assert.equal([unlocked.status, unlocked.out],
    [0, 'was not locked; the user can request a code now\n']);
  const logged = JSON.parse(unlocked.err) as Record<string, unknown>;
  assert.equal([logged.event, logged.outcome, logged.purpose, logged.command],
    ['authz_admin', 'not_locked', 'login', 'unlock']);
  const all = await runCommand(['unlock', '--', '--json'], variables);
  assert.equal([all.status, objectOf(all).purposes],
    [0, [{ purpose: 'login', next_code_at: null, limited_by: [] }]]);

  const nobody = await runCommand(['show', 'nobody'], variables);
  assert.is(nobody.status, 1);
  const { log_user: logUser, ...unknown } = objectOf(nobody);
  assert.equal(unknown, { outcome: 'unknown', user_id: 'nobody' });
  const asText = await runCommand(['show', '--text', 'nobody'], variables);
  assert.equal([asText.status, asText.out],
    [1, `no record of this user; in the log: ${logUser}\n`]);
  const raw = await runCommand(['show', 'nobody'], { ...variables, LOG_RAW_IDS: '1' });
  assert.is(objectOf(raw).log_user, 'nobody');
  const stranger = await runCommand(['cancel', 'ab'.repeat(16)], variables);
  assert.equal([stranger.status, objectOf(stranger).outcome], [1, 'unknown']);
  await service.close();
  database.close();
});

test('an error is one object and one line without a secret', async () => {
  const variables = variablesFor(newDatabaseName(), { DB_USER: 'nobody', DB_PASSWORD: 'hush' });
  const ended = await runCommand(['show', 'U1'], variables);
  assert.is(ended.status, 1);
  const { outcome, message } = objectOf(ended);
  assert.is(outcome, 'error');
  assert.match(message as string,
    /^cannot connect to the database: ER_ACCESS_DENIED_ERROR; check DB_USER and DB_PASSWORD/);
  assert.is(ended.err, `otpd: ${message}\n`);
  assert.not.match(ended.out + ended.err, /hush/);

  const none = await runCommand(['show', '--text', 'U1'], {});
  assert.equal([none.status, none.out], [1, '']);
  assert.match(none.err, /^otpd: DB_HOST or DB_SOCKET must be set .*npm start.*\n$/);
});

test('a command refuses a database with pending migrations', async () => {
  const database = await createTestDatabase();
  await database.query('DELETE FROM schema_migrations WHERE version = 7');
  const variables = variablesFor(database.settings.database!);
  const ended = await runCommand(['unlock', 'U1', 'login'], variables);
  assert.is(ended.status, 1);
  assert.match(objectOf(ended).message as string, /^the database lacks 0007/);
  database.close();
});

test.run();
