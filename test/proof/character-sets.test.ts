/**
 * MySQL servers that give a new connection another character set or sql_mode: no value can act as
 * SQL, and every value is stored and read back byte for byte.
 */
import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkDatabase } from '../../src/app/cli/doctor/check-database.ts';
import { readHostClock } from '../../src/app/log/log.ts';
import { DatabaseCheck } from '../../src/db/checks/health.ts';
import { openConnection } from '../../src/db/connection.ts';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import type { Row } from '../../src/db/query.ts';
import { closeClient, post } from '../harness/client.ts';
import type { Reply } from '../harness/client.ts';
import { runStatement } from '../harness/database.ts';
import type { TestService } from '../harness/service.ts';
import { eventually } from '../harness/waiting.ts';
import { CONNECTIONS_MAX, startPlainServer } from './plain-server.ts';
import type { Fixture, PlainServer } from './plain-server.ts';

type Configuration = Readonly<{
  name: string;
  /** Global variables of the server. */
  variables: Readonly<Record<string, string>>;
  /** A variable that a connection without set-up has, as proof that the configuration applies. */
  effect: readonly [name: string, value: RegExp];
}>;

const TRACKED = 'time_zone,autocommit,character_set_client,character_set_results,'
  + 'character_set_connection';

/** The driver learns of the character set only when the server tracks it. */
function connectingWith(charset: string, tracked = ''): Configuration {
  return {
    name: `${charset}, ${tracked === '' ? 'untracked' : 'tracked'}`,
    variables: {
      init_connect: `SET NAMES ${charset}`, session_track_system_variables: tracked,
    },
    effect: ['character_set_client', new RegExp(`^${charset}$`)],
  };
}

const CONFIGURATIONS: readonly Configuration[] = [
  ...['gbk', 'big5', 'sjis', 'cp932', 'utf8mb3', 'latin1'].map((name) => connectingWith(name)),
  // The driver cannot encode eucjpms, and in armscii8 it writes a comma as another byte.
  ...['gbk', 'eucjpms', 'armscii8'].map((name) => connectingWith(name, TRACKED)),
  {
    name: 'NO_BACKSLASH_ESCAPES and ANSI_QUOTES',
    variables: { sql_mode: 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES' },
    effect: ['sql_mode', /ANSI_QUOTES.*NO_BACKSLASH_ESCAPES/],
  },
  {
    // As with --skip-character-set-client-handshake, which MySQL 9 no longer has.
    name: 'gbk as the character set of the server, which ignores that of the client',
    variables: {
      character_set_server: 'gbk', session_track_system_variables: '',
      init_connect: `SET character_set_client = @@GLOBAL.character_set_server,
        character_set_results = @@GLOBAL.character_set_server,
        collation_connection = @@GLOBAL.collation_server`,
    },
    effect: ['character_set_client', /^gbk$/],
  },
];

let server: PlainServer;
/** The global variables at the start of the server. */
let defaults: Row = {};

const VARIABLES = [
  'init_connect', 'session_track_system_variables', 'sql_mode', 'character_set_server',
];

/** Sets the variables of a configuration, and all others to their values at the start. */
async function configure({ variables }: Configuration): Promise<void> {
  const assignments = VARIABLES.map((name) => `GLOBAL ${name} = ?`);
  await runStatement(server.rootSettings(), `SET ${assignments.join(', ')}`,
    VARIABLES.map((name) => variables[name] ?? defaults[name] as string));
}

test.before(async () => {
  server = await startPlainServer();
  const columns = VARIABLES.map((name) => `@@GLOBAL.${name} AS ${name}`);
  [defaults = {}] = await server.asRoot(`SELECT ${columns.join(', ')}`);
});
test.after(async () => {
  closeClient();
  await server.stop();
});

let requests = 0;

/** Sends each request with its own key and from its own address, so that no limit refuses it. */
function send(service: TestService, path: string, body: object): Promise<Reply> {
  requests += 1;
  const address = `10.0.${requests >> 8}.${requests & 255}`;
  return post({
    port: service.port, path, address, key: `k${requests}`, body: { purpose: 'login', ...body },
  });
}

/**
 * The last byte of each first character and a backslash are one character of gbk and big5, or of
 * sjis and cp932: a quote behind the backslash would end the literal.
 */
const INJECTIONS = ['中', 'Á', '\\', ''].flatMap((first) => [
  `${first}') FOR UPDATE; DELETE FROM otps; DELETE FROM ip_rate_limits; COMMIT; -- `,
  // With a row for each of these users, the sleep would outlast the deadline of the response.
  `${first}') OR SLEEP(1) FOR UPDATE; -- `,
]);

const VICTIMS = ['v1', 'v2', 'v3', 'v4'];

/** Every row of the tables that the injections change. */
async function readRows({ database }: DatabaseSettings): Promise<unknown> {
  const settings = server.rootSettings(database);
  return [
    await runStatement(settings, 'SELECT * FROM otps ORDER BY user_id'),
    await runStatement(settings, 'SELECT * FROM ip_rate_limits ORDER BY address'),
  ];
}

async function checkInjections({ settings, service }: Fixture): Promise<void> {
  for (const user of VICTIMS) {
    assert.is((await send(service, '/otp/request', { user_id: user })).status, 201);
  }
  const before = await readRows(settings);
  for (const user of INJECTIONS) {
    const { status, text } = await send(service, '/otp/verify', { user_id: user, code: '000000' });
    assert.is(`${status} ${text}`, '404 {"error":"otp_not_found"}', user);
    assert.equal(await readRows(settings), before, user);
  }
}

/** Characters that one character set or another lacks, and pairs that it could merge. */
const USERS = ['😀u', '😎u', 'userü', 'userö', 'user😀', 'USERü', 'useru\u0308', 'user中', 'user?'];

async function checkIdentities({ settings, service }: Fixture): Promise<void> {
  for (const user of USERS) {
    const requested = await send(service, '/otp/request', { user_id: user });
    assert.is(requested.status, 201, user);
    const message = service.messages.find(({ otpId }) => otpId === requested.body.otp_id);
    assert.is(message?.userId, user);
    const verified = { user_id: user, code: message!.code };
    assert.is((await send(service, '/otp/verify', verified)).status, 200, user);
    assert.is((await send(service, '/otp/request', { user_id: user })).status, 201, user);
  }
  const rows = await runStatement(server.rootSettings(settings.database),
    'SELECT DISTINCT HEX(user_id) AS id FROM otps WHERE user_id IS NOT NULL');
  const found = rows.map(({ id }) => Buffer.from(id as string, 'hex').toString());
  assert.equal(found.filter((user) => !VICTIMS.includes(user)).sort(), [...USERS].sort());
}

/** Each last byte of a character before each character with a meaning to SQL. */
const PAIRS = Array.from({ length: 64 }, (_, index) => String.fromCharCode(0x80 + index))
  .flatMap((last) => [...'\'"`\\?;%_\0\u001a\n/'].map((next) => last + next));

const CHARACTER = fc.oneof(
  fc.constantFrom(...'\'"`\\?%_;#-/*,() \0\b\t\n\r\u001aX'),
  fc.constantFrom(...PAIRS),
  fc.string({ unit: 'binary', maxLength: 1 }),
);

const TEXTS_COUNT = 4000;
const TEXTS_PER_STATEMENT = 250;

const TEXTS = [
  ...PAIRS, ...INJECTIONS,
  ...fc.sample(fc.array(CHARACTER, { maxLength: 20 }).map((parts) => parts.join('')), TEXTS_COUNT),
].slice(0, TEXTS_COUNT);

async function checkTexts({ settings }: Fixture): Promise<void> {
  for (let from = 0; from < TEXTS.length; from += TEXTS_PER_STATEMENT) {
    const texts = TEXTS.slice(from, from + TEXTS_PER_STATEMENT);
    const columns = texts.map((_, index) => `? AS c${index}, HEX(?) AS h${index}`);
    const [row = {}] = await runStatement(settings, `SELECT ${columns.join(', ')}`,
      texts.flatMap((text) => [text, text]));
    texts.forEach((text, index) => {
      assert.is(row[`c${index}`], text);
      assert.is(row[`h${index}`], Buffer.from(text).toString('hex').toUpperCase());
    });
  }
}

async function checkConnections({ settings, pool }: Fixture): Promise<void> {
  const [row] = await runStatement(settings, `SELECT @@character_set_client AS client,
    @@character_set_connection AS connection, @@character_set_results AS results,
    @@collation_connection AS collation`);
  assert.equal(row, { client: 'utf8mb4', connection: 'utf8mb4', results: 'utf8mb4',
    collation: 'utf8mb4_0900_bin' });
  // On a busy machine a check may not end in its time.
  await eventually('the check of readiness finds nothing', async () =>
    (await new DatabaseCheck(pool).errors()).length === 0);
  const target = { settings, pool, connections: CONNECTIONS_MAX, workers: 1, readHostClock };
  const findings = await checkDatabase(target);
  const levels = findings.filter(({ check }) => ['session', 'schema', 'grants'].includes(check))
    .map(({ level, check }) => `${level} ${check}`);
  assert.equal(levels, ['ok session', 'ok schema', 'ok grants']);
}

for (const configuration of CONFIGURATIONS) {
  test(`values stay values and identities stay exact: ${configuration.name}`, async () => {
    await configure(configuration);
    const [name, value] = configuration.effect;
    const bare = await openConnection({ ...server.newSettings(), database: null },
      `SET @found = @@${name}, NAMES utf8mb4`);
    const [row] = await bare.run('test', 'SELECT @found AS found', []);
    bare.destroy();
    assert.match(String(row?.found), value, 'the configuration applies');
    await server.withService(async (fixture) => {
      await checkInjections(fixture);
      await checkIdentities(fixture);
      await checkTexts(fixture);
      await checkConnections(fixture);
    });
  });
}

test.run();
