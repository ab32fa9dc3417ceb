import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createGate, eventually } from '../../harness/waiting.ts';
import type { SendResult } from '../../../src/otp/channels/channel.ts';
import { newSecretsText, secretsOf } from '../../harness/service.ts';
import { ACCEPTED, DENIED, REFUSED, RETRY, scripted, DeliveryFixture } from './delivery-fixture.ts';

let fixture: DeliveryFixture;
test.before.each(async () => { fixture = await DeliveryFixture.open(); });
test.after.each(() => fixture.close());

const eventNames = (events: readonly { event: string }[]) => events.map(({ event }) => event);

test('an accepted message is erased, and its OTP is sent', async () => {
  const channel = scripted('sms', ACCEPTED);
  const process = fixture.process([channel]);
  const { otpId } = await fixture.issue(process, '+491');
  await fixture.untilStatus(process, otpId, 'sent', 'sms');
  await fixture.untilEmpty();
  assert.is(channel.sent.length, 1);
  const [message] = channel.sent;
  assert.equal([message!.otpId, message!.userId, message!.lifetimeSeconds], [otpId, '+491', 300]);
});

test('an unsent OTP is pending, and its stored message is unreadable', async () => {
  const gate = createGate<SendResult>();
  const channel = scripted('sms', () => gate.promise);
  const process = fixture.process([channel]);
  const { otpId } = await fixture.issue(process, 'user-in-clear');
  await fixture.untilStatus(process, otpId, 'pending', 'sms');
  await eventually('it is tried', () => channel.sent.length === 1);
  const [row] = await fixture.database.query('SELECT * FROM outbox');
  const text = JSON.stringify(Object.values(row!).map((value) =>
    (Buffer.isBuffer(value) ? value.toString('latin1') : value)));
  assert.not.ok(text.includes(channel.sent[0]!.code));
  assert.not.ok(text.includes('user-in-clear'));
  gate.open(ACCEPTED);
  await fixture.untilStatus(process, otpId, 'sent');
});

test('after a refusal the next channel is tried, and the OTP names it', async () => {
  const [first, second] = [scripted('sms', REFUSED), scripted('email', ACCEPTED)];
  const process = fixture.process([first, second]);
  const { otpId } = await fixture.issue(process);
  await fixture.untilStatus(process, otpId, 'sent', 'email');
  assert.equal([first.sent.length, second.sent.length], [1, 1]);
  assert.equal(first.sent[0], second.sent[0]);
  assert.equal(process.events, [
    { event: 'delivery_refused', otpId, userId: first.sent[0]!.userId, channel: 'sms',
      reason: 'status 400' },
  ]);
});

test('after a denial the next channel is tried at once, and the OTP names it', async () => {
  const [first, second] = [scripted('sms', DENIED), scripted('email', ACCEPTED)];
  const process = fixture.process([first, second]);
  const { otpId } = await fixture.issue(process);
  await fixture.untilStatus(process, otpId, 'sent', 'email');
  assert.equal([first.sent.length, second.sent.length], [1, 1]);
  assert.equal(process.events, [
    { event: 'delivery_denied', otpId, userId: first.sent[0]!.userId, channel: 'sms',
      reason: 'status 402' },
  ]);
});

test('denials pause a channel, and the messages are tried again until they are accepted',
  async () => {
    const channel = scripted('sms', ...Array.from({ length: 5 }, () => DENIED), ACCEPTED);
    const process = fixture.process([channel]);
    const codes = await Promise.all([1, 2, 3, 4, 5].map(() => fixture.issue(process)));
    await Promise.all(codes.map(({ otpId }) => fixture.untilStatus(process, otpId, 'sent')));
    assert.is(channel.sent.length, 10);
    assert.equal(eventNames(process.events).filter((name) => name.startsWith('channel')),
      ['channel_paused', 'channel_resumed']);
    assert.is(eventNames(process.events).filter((name) => name === 'delivery_denied').length, 5);
  });

test('a message that is denied until it expires has failed, and its points are refunded',
  async () => {
    const channels = [scripted('sms', DENIED), scripted('email', REFUSED)];
    const process = fixture.process(channels);
    const { otpId } = await fixture.issue(process, 'U1');
    await eventually('it is denied again', () => channels[0]!.sent.length > 1);
    await fixture.untilStatus(process, otpId, 'pending');
    assert.is(channels[1]!.sent.length, 1);
    fixture.setClock(300);
    await fixture.untilStatus(process, otpId, 'failed');
    await fixture.untilEmpty();
    assert.is((await fixture.issue(process, 'U1')).remainingRequests, 2);
  });

test('a channel that cannot reach the user is not tried', async () => {
  const sms = { ...scripted('sms', ACCEPTED), accepts: (user: string) => user.startsWith('+') };
  const email = scripted('email', ACCEPTED);
  const process = fixture.process([sms, email]);
  const { otpId } = await fixture.issue(process, 'a@example.com');
  await fixture.untilStatus(process, otpId, 'sent', 'email');
  assert.is(sms.sent.length, 0);
});

/** Channels for phone numbers and for mail addresses. */
function byAddress(sms: SendResult, email: SendResult) {
  return [
    { ...scripted('sms', sms), accepts: (address: string) => address.startsWith('+') },
    { ...scripted('email', email), accepts: (address: string) => address.includes('@') },
    scripted('webhook', ACCEPTED),
  ] as const;
}

const TO = { to: '+14155550123' };

test('a message goes to the address of its request, which the database has sealed only',
  async () => {
    const [sms, ...others] = byAddress(RETRY, ACCEPTED);
    const process = fixture.process([sms, others[0]]);
    const { otpId } = await fixture.issue(process, 'a@example.com', 'login', '10.0.0.1', TO);
    await fixture.untilStatus(process, otpId, 'pending', 'sms');
    await eventually('it is tried', () => sms.sent.length > 1);
    assert.equal([sms.sent[0]!.userId, sms.sent[0]!.to], ['a@example.com', TO.to]);
    assert.is(others[0]!.sent.length, 0);
    const tables = await fixture.database.query('SHOW TABLES');
    for (const table of tables.flatMap((row) => Object.values(row) as string[])) {
      const rows = await fixture.database.query(`SELECT * FROM ${table}`);
      const text = JSON.stringify(rows.map((row) => Object.values(row).map((value) =>
        (Buffer.isBuffer(value) ? value.toString('latin1') : value))));
      assert.not.ok(text.includes('4155550123'), table);
    }
    assert.not.ok(JSON.stringify(process.events).includes('4155550123'));
  });

test('the named channel is tried first, and the others stay the fallback in their order',
  async () => {
    const channels = [scripted('sms', ACCEPTED), scripted('email', REFUSED),
      scripted('webhook', REFUSED)];
    const process = fixture.process(channels);
    const { otpId } = await fixture.issue(process, 'U1', 'login', '10.0.0.1',
      { channel: 'webhook' });
    await fixture.untilStatus(process, otpId, 'sent', 'sms');
    assert.equal(channels.map(({ sent }) => sent.length), [1, 0, 1]);
    assert.is(process.events[0]!.event, 'delivery_refused');
    const next = await fixture.issue(process, 'U1', 'login', '10.0.0.1', { channel: 'email' });
    await fixture.untilStatus(process, next.otpId, 'sent', 'sms');
    assert.equal(channels.map(({ sent }) => sent.length), [2, 1, 1]);
  });

test('a process that takes over a message keeps its address and its channel', async () => {
  const never = () => new Promise<SendResult>(() => {});
  const dead = fixture.process([scripted('sms', ACCEPTED), scripted('webhook', never)]);
  const options = { ...TO, channel: 'webhook' as const };
  const { otpId } = await fixture.issue(dead, 'a@example.com', 'login', '10.0.0.1', options);
  fixture.setClock(20);
  const channels = byAddress(ACCEPTED, ACCEPTED);
  const successor = fixture.process(channels);
  successor.delivery.start();
  await fixture.untilStatus(successor, otpId, 'sent', 'webhook');
  assert.equal(channels.map(({ sent }) => sent.length), [0, 0, 1]);
  assert.equal([channels[2].sent[0]!.to, channels[2].sent[0]!.userId], [TO.to, 'a@example.com']);
});

test('when every channel has refused, the OTP is closed and its points are refunded', async () => {
  const channels = [scripted('sms', REFUSED), scripted('email', REFUSED)];
  const process = fixture.process(channels);
  const { otpId } = await fixture.issue(process, 'U1');
  await fixture.untilStatus(process, otpId, 'failed', 'sms');
  await fixture.untilEmpty();
  const code = channels[0]!.sent[0]!.code;
  const verified = await process.service.verify(
    { userId: 'U1', purpose: 'login', code, clientIp: null, clientNet48: null,
      key: null, apiClient: null }, () =>
      true);
  assert.is(verified.kind, 'expired');
  const { limits } = await fixture.issue(process, 'U1');
  assert.equal(limits.map(({ limit, remaining }) => [limit, remaining]),
    [['user', 2], ['address', 7]]);
  assert.equal(eventNames(process.events).slice(0, 3),
    ['delivery_refused', 'delivery_refused', 'delivery_failed']);
});

test('at most as many points as the limit has are refunded', async () => {
  const process = fixture.process([scripted('sms', REFUSED)]);
  for (let index = 0; index < 6; index += 1) {
    const { otpId } = await fixture.issue(process, 'U1');
    await fixture.untilStatus(process, otpId, 'failed');
    await fixture.untilEmpty();
  }
  const outcome = await process.service.request({
    userId: 'U1', purpose: 'login', clientIp: '10.0.0.2', clientNet48: null,
    key: 'k', apiClient: null,
    acceptLanguage: '',
  }, () => true);
  assert.is(outcome.kind, 'limited');
});

test('a failed attempt is repeated until the message is accepted', async () => {
  const channel = scripted('sms', RETRY, RETRY, ACCEPTED);
  const process = fixture.process([channel]);
  const { otpId } = await fixture.issue(process);
  await fixture.untilStatus(process, otpId, 'sent');
  assert.is(channel.sent.length, 3);
  assert.is(new Set(channel.sent.map((message) => JSON.stringify(message))).size, 1);
});

test('after three failures the next channel is tried, and the failing one is paused', async () => {
  const [first, second] = [scripted('sms', RETRY), scripted('email', ACCEPTED)];
  const process = fixture.process([first, second]);
  const { otpId } = await fixture.issue(process);
  await fixture.untilStatus(process, otpId, 'sent', 'email');
  assert.is(first.sent.length, 3);
  const codes = await Promise.all([1, 2, 3].map(() => fixture.issue(process)));
  await eventually('it is paused', () => eventNames(process.events).includes('channel_paused'));
  await Promise.all(codes.map((code) => fixture.untilStatus(process, code.otpId, 'sent', 'email')));
});

test('the message of a superseded OTP is not sent again', async () => {
  const gate = createGate<SendResult>();
  const channel = scripted('sms', () => gate.promise, ACCEPTED);
  const process = fixture.process([channel]);
  const first = await fixture.issue(process, 'U1');
  await eventually('it is tried', () => channel.sent.length === 1);
  const second = await fixture.issue(process, 'U1');
  await fixture.untilStatus(process, second.otpId, 'sent');
  gate.open(RETRY);
  const third = await fixture.issue(process, 'U2');
  await fixture.untilStatus(process, third.otpId, 'sent');
  // A retry waits at most 250 ms, so that a repeated message would come before this one.
  await eventually('it is let go', () => process.delivery.pending === 0);
  assert.equal(channel.sent.map(({ otpId }) => otpId), [first.otpId, second.otpId, third.otpId]);
  await fixture.untilStatus(process, first.otpId, 'superseded');
});

test('the message of a canceled OTP is not sent again', async () => {
  const gate = createGate<SendResult>();
  const channel = scripted('sms', () => gate.promise, ACCEPTED);
  const process = fixture.process([channel]);
  const { otpId } = await fixture.issue(process);
  await eventually('it is tried', () => channel.sent.length === 1);
  assert.equal(await process.service.cancel({ otpId, apiClient: null }, () => true),
    { kind: 'canceled' });
  gate.open(RETRY);
  await eventually('it is let go', () => process.delivery.pending === 0);
  assert.is(channel.sent.length, 1);
});

test('an OTP that expires unsent has failed, and its message is erased', async () => {
  const channel = scripted('sms', RETRY);
  const process = fixture.process([channel]);
  const { otpId } = await fixture.issue(process, 'U1');
  await eventually('it was tried', () => channel.sent.length > 0);
  fixture.setClock(300);
  await fixture.untilStatus(process, otpId, 'failed');
  await fixture.untilEmpty();
  assert.is((await fixture.issue(process, 'U1')).remainingRequests, 2);
});

test('a message that waits for longer than its lease renews it, and sees that its OTP expires',
  async () => {
    const channel = scripted('sms', { kind: 'retry', reason: 'status 429', afterSeconds: 600 });
    const process = fixture.process([channel]);
    const { otpId } = await fixture.issue(process, 'U1');
    await fixture.untilFailure('U1', 'sms: status 429');
    fixture.setClock(300);
    await fixture.untilStatus(process, otpId, 'failed');
    await fixture.untilEmpty();
    assert.is(channel.sent.length, 1);
  });

test('the messages of a dead process are reclaimed once its lease expires', async () => {
  const dead = fixture.process([scripted('sms', () => new Promise(() => {}))]);
  const { otpId } = await fixture.issue(dead);
  fixture.setClock(19.999999);
  const early = fixture.process([scripted('sms', ACCEPTED)]);
  early.delivery.start();
  await early.stop();
  assert.equal(early.events, []);
  fixture.setClock(20);
  const channel = scripted('sms', ACCEPTED);
  const successor = fixture.process([channel]);
  successor.delivery.start();
  await fixture.untilStatus(successor, otpId, 'sent', 'sms');
  assert.equal(channel.sent.map((message) => message.otpId), [otpId]);
  assert.equal(successor.events, [{ event: 'delivery_taken_over', count: 1 }]);
});

test('a reclaimed OTP that has expired is closed and not sent', async () => {
  const dead = fixture.process([scripted('sms', () => new Promise(() => {}))]);
  const { otpId } = await fixture.issue(dead, 'U1');
  fixture.setClock(300);
  const channel = scripted('sms', ACCEPTED);
  const successor = fixture.process([channel]);
  successor.delivery.start();
  await fixture.untilStatus(successor, otpId, 'failed');
  await fixture.untilEmpty();
  assert.is(channel.sent.length, 0);
});

test('an OTP whose message is sealed under an unknown secret is closed with a refund',
  async () => {
    const dead = fixture.process([scripted('sms', () => new Promise(() => {}))]);
    const { otpId } = await fixture.issue(dead, 'U1');
    fixture.setClock(20);
    const channel = scripted('sms', ACCEPTED);
    const successor = fixture.process([channel], { secrets: secretsOf(newSecretsText()) });
    successor.delivery.start();
    // The successor cannot decode the id.
    await fixture.untilStatus(dead, otpId, 'failed');
    await fixture.untilEmpty();
    assert.is(channel.sent.length, 0);
    assert.equal(eventNames(successor.events), ['delivery_unreadable', 'delivery_taken_over']);
    assert.is((await fixture.issue(successor, 'U1')).remainingRequests, 2);
  });

test('an operator sees why a message is not sent yet, why it failed, and what failed before',
  async () => {
    const refusal = { kind: 'refused', reason: 'code 30007' } as const;
    const denial = { kind: 'denied', reason: 'status 402', afterSeconds: null } as const;
    const silence = { kind: 'retry', reason: 'ECONNREFUSED', afterSeconds: null } as const;
    const busy = fixture.process([scripted('sms', RETRY, silence)]);
    const pending = await fixture.issue(busy, 'pending');
    await fixture.untilFailure('pending', 'sms: ECONNREFUSED');
    await fixture.untilStatus(busy, pending.otpId, 'pending');
    const both = [scripted('sms', denial), scripted('email', refusal)];
    await fixture.issue(fixture.process(both), 'denied');
    await eventually('it is denied again', () => both[0]!.sent.length > 1);
    await fixture.untilFailure('denied', 'sms: status 402');
    const refused = fixture.process([scripted('sms', REFUSED), scripted('email', refusal)]);
    await fixture.untilStatus(refused, (await fixture.issue(refused, 'no')).otpId, 'failed');
    assert.is(await fixture.failureOf('no'), 'email: code 30007');
    const sent = fixture.process([scripted('sms', denial), scripted('email', ACCEPTED)]);
    await fixture.untilStatus(sent, (await fixture.issue(sent, 'sent')).otpId, 'sent', 'email');
    assert.is(await fixture.failureOf('sent'), 'sms: status 402');
    const again = fixture.process([scripted('sms', denial, ACCEPTED), scripted('email', RETRY)]);
    await fixture.untilStatus(again, (await fixture.issue(again, 'again')).otpId, 'sent', 'sms');
    await fixture.untilFailure('again', 'email: status 503');
    const first = fixture.process([scripted('sms', ACCEPTED)]);
    await fixture.untilStatus(first, (await fixture.issue(first, 'first')).otpId, 'sent');
    assert.is(await fixture.failureOf('first'), null);
    fixture.setClock(300);
    await fixture.untilStatus(busy, pending.otpId, 'failed');
    assert.is(await fixture.failureOf('pending'), 'sms: ECONNREFUSED');
  });

test('an operator sees why a message waits for a paused channel that never tried it', async () => {
  const probe = createGate<SendResult>();
  const channel = scripted('sms', RETRY, RETRY, RETRY, RETRY, RETRY, () => probe.promise);
  const process = fixture.process([channel]);
  for (let failure = 0; failure < 5; failure += 1) await fixture.issue(process);
  // The channel gets no other attempt while a probe is in flight, however long that is.
  await eventually('a probe is in flight', () => channel.sent.length === 6);
  assert.ok(eventNames(process.events).includes('channel_paused'));
  const { otpId } = await fixture.issue(process, 'waits', 'login', '10.0.0.2');
  await fixture.untilFailure('waits', 'sms: paused after status 503');
  await fixture.untilStatus(process, otpId, 'pending');
  assert.is(channel.sent.length, 6);
  probe.open(RETRY);
});

test('an operator sees that no attempt was made before an OTP expired', async () => {
  const dead = fixture.process([scripted('sms', () => new Promise(() => {}))]);
  const { otpId } = await fixture.issue(dead, 'U1');
  fixture.setClock(300);
  const successor = fixture.process([scripted('sms', ACCEPTED)]);
  successor.delivery.start();
  await fixture.untilStatus(successor, otpId, 'failed');
  assert.is(await fixture.failureOf('U1'), 'null: expired');
});

test('two processes that reclaim at the same time send each message once', async () => {
  const dead = fixture.process([scripted('sms', () => new Promise(() => {}))]);
  const users = Array.from({ length: 8 }, () => fixture.issue(dead));
  await Promise.all(users);
  fixture.setClock(20);
  const channels = [1, 2, 3].map(() => scripted('sms', ACCEPTED));
  for (const channel of channels) fixture.process([channel]).delivery.start();
  await fixture.untilEmpty();
  const sent = channels.flatMap((channel) => channel.sent.map(({ otpId }) => otpId));
  assert.is(sent.length, 8);
  assert.is(new Set(sent).size, 8);
});

test('a process that stops releases its unsent messages immediately', async () => {
  const first = fixture.process([scripted('sms', RETRY)]);
  const { otpId } = await fixture.issue(first);
  await first.stop();
  const channel = scripted('sms', ACCEPTED);
  const successor = fixture.process([channel]);
  successor.delivery.start();
  await fixture.untilStatus(successor, otpId, 'sent');
  assert.is(channel.sent.length, 1);
});

test('a process that stops waits for attempts in flight', async () => {
  const gate = createGate<SendResult>();
  const process = fixture.process([scripted('sms', () => gate.promise)]);
  const { otpId } = await fixture.issue(process);
  await fixture.untilStatus(process, otpId, 'pending');
  const stopped = process.stop();
  gate.open(ACCEPTED);
  await stopped;
  await fixture.untilStatus(process, otpId, 'sent');
});

test('accepted messages leave their batch while another one is unsent',
  async () => {
    const gate = createGate<SendResult>();
    const channel = scripted('sms', () => gate.promise, ACCEPTED);
    const process = fixture.process([channel]);
    const issued = await Promise.all([1, 2, 3].map(() => fixture.issue(process)));
    await eventually('one is tried', () => channel.sent.length > 0);
    const first = channel.sent[0]!.otpId;
    const others = issued.filter(({ otpId }) => otpId !== first);
    await Promise.all(others.map(({ otpId }) => fixture.untilStatus(process, otpId, 'sent')));
    await fixture.untilStatus(process, first, 'pending');
    // A process that reclaims the batch finds only the unsent message.
    fixture.setClock(20);
    const successorChannel = scripted('sms', ACCEPTED);
    const successor = fixture.process([successorChannel]);
    successor.delivery.start();
    await fixture.untilStatus(successor, first, 'sent');
    assert.equal(successorChannel.sent.map(({ otpId }) => otpId), [first]);
    gate.open(ACCEPTED);
    await fixture.untilEmpty();
  });

test('a reclaimed message of a canceled OTP is not sent', async () => {
  const dead = fixture.process([scripted('sms', () => new Promise(() => {}))]);
  const { otpId } = await fixture.issue(dead);
  await dead.service.cancel({ otpId, apiClient: null }, () => true);
  fixture.setClock(20);
  const channel = scripted('sms', ACCEPTED);
  const successor = fixture.process([channel]);
  successor.delivery.start();
  await fixture.untilEmpty();
  assert.is(channel.sent.length, 0);
  await fixture.untilStatus(successor, otpId, 'canceled');
});

test('a transaction of many OTPs needs few rows, each with at most 64 messages', async () => {
  const process = fixture.process([scripted('sms', () => new Promise(() => {}))]);
  const users = Array.from({ length: 100 }, (_, index) => `v${index}`);
  await Promise.all(users.map((userId, index) => process.service.request({
    userId, purpose: 'login', clientIp: `10.1.0.${index}`, clientNet48: null, key: userId,
    apiClient: null, acceptLanguage: '',
  }, () => true)));
  const rows = await fixture.database.query('SELECT LENGTH(otp_ids) DIV 16 AS n FROM outbox');
  const counts = rows.map(({ n }) => Number(n));
  assert.is(counts.reduce((sum, count) => sum + count, 0), 100);
  assert.ok(counts.every((count) => count <= 64), `${counts}`);
  assert.ok(counts.length < 20, `${counts}`);
});

test.run();
