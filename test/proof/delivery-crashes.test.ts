/**
 * Repeated kill -9 of otpd while codes are requested and the provider fails a third of the calls:
 * no message is lost, and a message is sent twice only if a process dies between acceptance and
 * mark. OTPD_TEST_CODES sets the number of codes; a process is killed after each hundred.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeClient, post, send } from '../harness/client.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import {
  answer, cutAfterHead, cutBeforeHead, cutInHead, tooMany,
} from '../harness/http-sink.ts';
import { findInTables } from '../harness/leak-check.ts';
import { loggedErrors, startOtpdOn, stopAllOtpd } from '../harness/otpd-on.ts';
import type { Otpd } from '../harness/otpd.ts';
import { newSecretsText } from '../harness/service.ts';
import { createGate, eventually } from '../harness/waiting.ts';
import { groupByOtp, Provider } from './provider.ts';
import type { Responder, ProviderCall } from './provider.ts';
import { atOnce } from './load.ts';

const CODES = Number(process.env.OTPD_TEST_CODES ?? 600);
const CODES_PER_PROCESS = 100;
/** The last of the codes of a process, whose messages are being sent when the process is killed. */
const CODES_AT_KILL = 30;
const KILLS = Math.ceil(CODES / CODES_PER_PROCESS) - 1;
const CLIENTS = 16;
const ADDRESSES = 50;
const VERIFIED = 60;

/** A lease lasts 20 s, the reclaimer runs every 6 s, and a retry is delayed by up to 15 s. */
const TAIL_MAX_MS = 120_000 + 20 * CODES;

/** Every third response is a failure. The status decides, even when the body breaks off. */
const RESPONSES = [
  answer(503), answer(204), cutAfterHead(200), cutBeforeHead, answer(200), answer(204),
  cutInHead, answer(202), answer(200), tooMany(1), answer(200), answer(204),
  cutAfterHead(503), answer(204), answer(200),
];

/** The moment at which a process is killed. */
type Moment = 'a code is acknowledged' | 'a call comes' | 'a call is accepted' | 'right after';
const MOMENTS: readonly Moment[] = [
  'a call is accepted', 'a code is acknowledged', 'right after', 'a call comes',
];

type Issued = { user: string; otpId: string; repeats: number };

const secrets = newSecretsText();
let database: TestDatabase;
let provider: Provider;
/** Null while no process runs. */
let otpd: Otpd | null = null;
let armed: { moment: Moment; kill: () => void } | null = null;
const issued: Issued[] = [];
/** Upper bound of the messages that the killed processes have left between acceptance and mark. */
let repeatsMax = 0;

test.before(async () => {
  database = await createTestDatabase(2);
  provider = await Provider.start();
  let turn = 0;
  const responder: Responder = () => RESPONSES[(turn += 1) % RESPONSES.length]!;
  provider.behave(responder);
  provider.watch(() => reach('a call comes'), () => {
    reach('a call is accepted');
    setImmediate(() => reach('right after'));
  });
});
test.after(async () => {
  closeClient();
  await stopAllOtpd();
  await provider.close();
  database.close();
});

/** Kills the process if this is its moment. */
function reach(moment: Moment): void {
  if (armed?.moment !== moment) return;
  armed.kill();
  armed = null;
}

function start(nth: number): Promise<Otpd> {
  return startOtpdOn({
    settings: database.settings, secrets,
    webhookUrl: provider.urlFor(senderOf(nth)), webhookSecrets: provider.secrets,
  });
}

function senderOf(nth: number): string {
  return `/nth/${nth}`;
}

/** Repeats a request with one key until it succeeds, as a client does. */
async function request(index: number): Promise<void> {
  const user = `d${index}.${process.pid}`;
  const body = { user_id: user, purpose: 'login' };
  const address = `10.9.0.${index % ADDRESSES}`;
  for (let repeats = 0; ; repeats += 1) {
    await eventually('otpd runs', () => otpd !== null);
    const port = otpd?.port;
    if (port === undefined) continue;
    const reply = await post({ port, path: '/otp/request', body, address, key: user })
      .catch(() => null);
    assert.ok([undefined, 201, 503].includes(reply?.status), reply?.text);
    if (reply?.status !== 201) continue;
    issued.push({ user, otpId: String(reply.body.otp_id), repeats });
    reach('a code is acknowledged');
    return;
  }
}

/** Clients that request as many codes as `allow` permits. */
function startClients(): { allow: (count: number) => void; done: Promise<unknown> } {
  let allowed = 0;
  let next = 0;
  const client = async (): Promise<void> => {
    for (;;) {
      let mine: number | null = null;
      await eventually('the client may send a request', () => {
        if (next < Math.min(allowed, CODES)) mine = next++;
        return mine !== null || next >= CODES;
      });
      if (mine === null) return;
      await request(mine);
    }
  };
  const done = atOnce(CLIENTS, client);
  done.catch(() => {});
  return { allow: (count) => { allowed += count; }, done };
}

/** True once the process has sent some messages that failed before. */
function hasRepeated(sender: string): boolean {
  const groups = groupByOtp(provider.calls.filter((call) => call.sender === sender));
  const repeated = [...groups.values()].filter((calls) =>
    calls.length > 1 && calls.some(({ isAccepted }) => isAccepted));
  return repeated.length >= 5;
}

/**
 * Counts the messages that a process may hold unmarked when it is killed: those in the outbox and
 * those still to be requested. At this moment none of them is accepted.
 *
 * @param codes the number of codes allowed by the time of the kill
 */
async function countUnmarked(codes: number): Promise<number> {
  let count = 0;
  await eventually('what was accepted is marked', async () => {
    const toCome = codes - issued.length;
    const accepted = new Set(provider.accepted.map(({ otpId }) => otpId));
    const rows = await database.query('SELECT LOWER(HEX(otp_ids)) AS ids FROM outbox');
    const waiting = rows.flatMap(({ ids }) => String(ids).match(/.{32}/g) ?? []);
    count = waiting.length + toCome;
    return waiting.every((otpId) => !accepted.has(otpId));
  });
  return count;
}

async function killAt(moment: Moment, load: () => void): Promise<void> {
  const target = otpd!;
  const killed = createGate();
  armed = {
    moment,
    kill: () => {
      otpd = null;
      target.signal('SIGKILL');
      killed.open();
    },
  };
  load();
  await eventually(`${moment}`, () => otpd === null);
  await killed.promise;
  assert.is(await target.ended, null);
}

test(`${CODES} codes are all acknowledged despite ${KILLS} kills`, async () => {
  const clients = startClients();
  for (let nth = 0; nth < KILLS; nth += 1) {
    otpd = await start(nth);
    const before = issued.length;
    clients.allow(CODES_PER_PROCESS - CODES_AT_KILL);
    await eventually('the process has sent enough', () => hasRepeated(senderOf(nth))
      && issued.length >= before + CODES_PER_PROCESS - 2 * CODES_AT_KILL);
    repeatsMax += await countUnmarked(before + CODES_PER_PROCESS);
    await killAt(MOMENTS[nth % MOMENTS.length]!, () => clients.allow(CODES_AT_KILL));
  }
  otpd = await start(KILLS);
  clients.allow(CODES);
  await clients.done;
  assert.is(new Set(issued.map(({ otpId }) => otpId)).size, CODES);
  assert.ok(issued.some(({ repeats }) => repeats > 0), 'a kill interrupted a request');
});

test('no code is readable in the rows that killed processes left', async () => {
  const codes = new Set(provider.calls.map(({ code }) => code));
  const { rows, leaks } = await findInTables(database.settings, codes);
  assert.ok(rows > CODES);
  assert.equal(leaks, []);
});

test('every message is sent eventually, and the outbox is empty', async () => {
  await eventually('the outbox is empty', async () => {
    const [row] = await database.query('SELECT COUNT(*) AS n FROM outbox');
    return row?.n === 0;
  }, TAIL_MAX_MS);
  await otpd!.prints('"event":"delivery_taken_over"');
});

const sorted = (ids: Iterable<string>): string[] => [...ids].sort();

test('every acknowledged code is delivered, and no other', async () => {
  const accepted = new Set(provider.accepted.map(({ otpId }) => otpId));
  const unsent = issued.filter(({ otpId }) => !accepted.has(otpId));
  for (const { otpId } of unsent) assert.is(await statusOf(otpId), 'failed', otpId);
  assert.equal(sorted(new Set([...accepted, ...unsent.map(({ otpId }) => otpId)])),
    sorted(issued.map(({ otpId }) => otpId)));
  const reported = await atOnce(CLIENTS, async (client) => {
    const mine = issued.filter((_, index) => index % CLIENTS === client);
    const statuses: string[] = [];
    for (const { otpId } of mine) statuses.push(await statusOf(otpId));
    return statuses;
  });
  assert.equal(new Set(reported.flat()),
    new Set(unsent.length > 0 ? ['sent', 'failed'] : ['sent']));
});

async function statusOf(otpId: string): Promise<string> {
  const reply = await send({ method: 'GET', port: otpd!.port, path: `/otp/${otpId}` });
  assert.is(reply.status, 200);
  return String(reply.body.status);
}

test('all calls for one code carry one code, one user and one webhook-id', () => {
  for (const [otpId, calls] of groupByOtp(provider.calls)) {
    const kinds = new Set(calls.map(({ webhookId, userId, code }) =>
      `${webhookId} ${userId} ${code}`));
    assert.equal([...kinds], [`${otpId} ${calls[0]!.userId} ${calls[0]!.code}`]);
  }
});

test('a message is sent twice only if its process died between acceptance and mark', () => {
  let repeats = 0;
  for (const calls of groupByOtp(provider.accepted).values()) {
    repeats += calls.length - 1;
    // Only a killed process may be followed by another acceptance, and no process accepts twice.
    const senders = calls.map(({ sender }) => Number(sender.split('/').at(-1)));
    assert.equal(senders, [...new Set(senders)].sort((a, b) => a - b));
    for (const nth of senders.slice(0, -1)) assert.ok(nth < KILLS);
  }
  // A process killed during the response cannot mark its message, which is therefore sent again.
  assert.ok(repeats > 0, 'a process was killed between acceptance and mark');
  assert.ok(repeats <= repeatsMax, `${repeats} repeats of ${repeatsMax}`);
});

test('the codes that were delivered work', async () => {
  const calls = [...groupByOtp(provider.accepted).values()].map(([call]) => call as ProviderCall);
  const step = Math.max(1, Math.floor(calls.length / VERIFIED));
  const sample = calls.filter((_, index) => index % step === 0);
  assert.ok(sample.length >= VERIFIED);
  for (const { userId, code } of sample) {
    const body = { user_id: userId, purpose: 'login', code };
    const reply = await post({ port: otpd!.port, path: '/otp/verify', body });
    assert.is(`${reply.status} ${reply.text}`.slice(0, 19), '200 {"success":true', userId);
  }
});

test('no code is readable in the database', async () => {
  const codes = new Set(provider.calls.map(({ code }) => code));
  const { rows, leaks } = await findInTables(database.settings, codes);
  assert.ok(rows > 2 * CODES);
  assert.equal(leaks, []);
});

test('no process logs an internal error', () => {
  assert.equal(loggedErrors(), []);
});

test.run();
