/** Reports of a provider on messages that it has accepted, over all processes. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createGate, eventually } from '../../harness/waiting.ts';
import type { ProviderReport, SendResult } from '../../../src/otp/channels/channel.ts';
import { newSecretsText, secretsOf } from '../../harness/service.ts';
import { recordCode } from '../../harness/leak-recorder.ts';
import { ACCEPTED, REFUSED, RETRY, scripted, DeliveryFixture } from './delivery-fixture.ts';
import type { Process, ScriptedChannel } from './delivery-fixture.ts';

let fixture: DeliveryFixture;
test.before.each(async () => { fixture = await DeliveryFixture.open(); });
test.after.each(() => fixture.close());

type ReportingChannel = ScriptedChannel & Readonly<{ paths: Map<string, string> }>;

const REPORT: ProviderReport = { kind: 'failed', reason: 'undelivered, error 30003' };

/** The channel sms of a provider that reports: `failed` in the body, or anything else. */
function reporting(result: SendResult | (() => Promise<SendResult>) = ACCEPTED): ReportingChannel {
  const channel = scripted('sms', result);
  const paths = new Map<string, string>();
  return {
    ...channel,
    paths,
    send: (message, sentAt, path) => {
      recordCode(message.code);
      paths.set(message.otpId, path!);
      return channel.send(message, sentAt);
    },
    readReport: (body) => (body === 'failed' ? REPORT : { kind: 'other' }),
  };
}

async function report(
  { delivery }: Process,
  { paths }: ReportingChannel,
  otpId: string,
  body = 'failed',
): Promise<string> {
  const [keyId, sealed] = paths.get(otpId)!.split('/').slice(-2);
  const sent = { otpId, keyId: keyId!, sealed: sealed!, body };
  return (await delivery.report!(sent, () => true)).kind;
}

async function issueSent(process: Process, userId?: string, clientIp?: string): Promise<string> {
  const { otpId } = await fixture.issue(process, userId, 'login', clientIp);
  await fixture.untilStatus(process, otpId, 'sent');
  return otpId;
}

test('a delivery without a channel that asks for reports takes none', () => {
  assert.is(fixture.process([scripted('sms', ACCEPTED)]).delivery.report, null);
});

test('a reported failure closes the OTP, keeps the reason and refunds the points', async () => {
  const sms = reporting();
  const process = fixture.process([sms]);
  const otpId = await issueSent(process, 'U1');
  assert.is(await report(process, sms, otpId, 'delivered'), 'noted');
  await fixture.untilStatus(process, otpId, 'sent');
  assert.is(await report(process, sms, otpId), 'noted');
  await fixture.untilStatus(process, otpId, 'failed', 'sms');
  assert.is(await fixture.failureOf('U1'), 'sms: undelivered, error 30003');
  const { userId } = sms.sent[0]!;
  assert.equal(process.events, [
    { event: 'delivery_undelivered', otpId, userId, channel: 'sms',
      reason: 'undelivered, error 30003' },
    { event: 'delivery_failed', otpId, userId, reason: 'refused' },
  ]);
  const { limits } = await fixture.issue(process, 'U1');
  assert.equal(limits.map(({ remaining }) => remaining), [2, 7]);
});

test('a reported failure is refunded once, whatever is repeated at the same time', async () => {
  const sms = reporting();
  const processes = [fixture.process([sms]), fixture.process([sms])] as const;
  await issueSent(processes[0], 'U1');
  const otpId = await issueSent(processes[0], 'U1');
  await Promise.all([...processes, ...processes, ...processes].map((process) =>
    report(process, sms, otpId)));
  await fixture.untilStatus(processes[0], otpId, 'failed');
  assert.is(processes.flatMap(({ events }) => events).length, 2);
  const { limits } = await fixture.issue(processes[0], 'U1');
  assert.equal(limits.map(({ remaining }) => remaining), [1, 6]);
});

test('after a reported failure the next channel sends the same message once', async () => {
  const sms = reporting();
  const gate = createGate<SendResult>();
  const email = scripted('email', () => gate.promise);
  const processes = [fixture.process([sms, email]), fixture.process([sms, email])] as const;
  const otpId = await issueSent(processes[0], 'U1');
  await fixture.untilEmpty();
  const all = [...processes, ...processes];
  await Promise.all(all.map((process) => report(process, sms, otpId)));
  await fixture.untilStatus(processes[0], otpId, 'pending', 'email');
  assert.is(await report(processes[0], sms, otpId), 'noted');
  gate.open(ACCEPTED);
  await fixture.untilStatus(processes[1], otpId, 'sent', 'email');
  await fixture.untilEmpty();
  await Promise.all(all.map((process) => report(process, sms, otpId)));
  await fixture.untilStatus(processes[0], otpId, 'sent', 'email');
  assert.equal(email.sent, sms.sent);
  assert.is(await fixture.failureOf('U1'), 'sms: undelivered, error 30003');
  const verified = await processes[1].service.verify({
    userId: 'U1', purpose: 'login', code: email.sent[0]!.code, clientIp: null, clientNet48: null,
    key: null, apiClient: null,
  }, () => true);
  assert.is(verified.kind, 'verified');
});

test('the next channel sends to the address of the request, the named channel first', async () => {
  const sms = { ...reporting(), accepts: (address: string) => address.startsWith('+') };
  const email = { ...scripted('email', ACCEPTED), accepts: (address: string) =>
    address.includes('@') };
  const [console, webhook] = [scripted('console', ACCEPTED), scripted('webhook', REFUSED)];
  const process = fixture.process([sms, email, console, webhook]);
  const options = { to: '+14155550123', channel: 'webhook' as const };
  const { otpId } = await fixture.issue(process, 'a@example.com', 'login', '10.0.0.1', options);
  await fixture.untilStatus(process, otpId, 'sent', 'sms');
  assert.is(await report(process, sms, otpId), 'noted');
  await fixture.untilStatus(process, otpId, 'sent', 'console');
  const channels = [sms, email, webhook, console];
  assert.equal(channels.map(({ sent }) => sent.map(({ to }) => to)),
    [[options.to], [], [options.to, options.to], [options.to]]);
});

test('when the next channel fails as well, the OTP is closed with a refund', async () => {
  const sms = reporting();
  const process = fixture.process([sms, scripted('email', REFUSED)]);
  const otpId = await issueSent(process, 'U1');
  await report(process, sms, otpId);
  await fixture.untilStatus(process, otpId, 'failed', 'email');
  await fixture.untilEmpty();
  assert.is(sms.sent.length, 1);
  assert.is(await fixture.failureOf('U1'), 'email: status 400');
  const { limits } = await fixture.issue(process, 'U1');
  assert.equal(limits.map(({ remaining }) => remaining), [2, 7]);
});

test('the next channel sends a message while others of its batch are unsent', async () => {
  const gate = createGate<SendResult>();
  const sms = reporting(() => (sms.sent.length === 1 ? gate.promise : Promise.resolve(ACCEPTED)));
  const email = scripted('email', ACCEPTED);
  const process = fixture.process([sms, email]);
  const issued = await Promise.all([1, 2].map(() => fixture.issue(process)));
  await eventually('both are tried', () => sms.sent.length === 2);
  const [first, second] = sms.sent.map(({ otpId }) => otpId);
  await fixture.untilStatus(process, second!, 'sent');
  assert.is(await report(process, sms, second!), 'noted');
  await fixture.untilStatus(process, second!, 'sent', 'email');
  await fixture.untilStatus(process, first!, 'pending', 'sms');
  gate.open(ACCEPTED);
  await fixture.untilStatus(process, first!, 'sent', 'sms');
  await fixture.untilEmpty();
  assert.equal(issued.map(({ otpId }) => otpId).sort(), [first, second].sort());
});

test('a process that takes over such a message does not send it by the channel that failed',
  async () => {
    const sms = reporting();
    const dead = fixture.process([sms, scripted('email', () => new Promise(() => {}))]);
    const otpId = await issueSent(dead, 'U1');
    await fixture.untilEmpty();
    await report(dead, sms, otpId);
    fixture.setClock(20);
    const email = scripted('email', RETRY, ACCEPTED);
    const successor = fixture.process([sms, email]);
    successor.delivery.start();
    await fixture.untilStatus(successor, otpId, 'sent', 'email');
    await fixture.untilEmpty();
    assert.equal([sms.sent.length, email.sent.length], [1, 2]);
  });

test('a report changes nothing once the OTP is redeemed, superseded, canceled or expired',
  async () => {
    const sms = reporting();
    const email = scripted('email', ACCEPTED);
    const process = fixture.process([sms, email]);
    const [used, old, canceled] = [await issueSent(process, 'used', '10.0.0.2'),
      await issueSent(process, 'old', '10.0.0.3'),
      await issueSent(process, 'canceled', '10.0.0.4')];
    await process.service.verify({
      userId: 'used', purpose: 'login', code: sms.sent[0]!.code, clientIp: null, clientNet48: null,
      key: null, apiClient: null,
    }, () => true);
    await issueSent(process, 'old', '10.0.0.3');
    await process.service.cancel({ otpId: canceled, apiClient: null }, () => true);
    const ended = [[used, 'verified'], [old, 'superseded'], [canceled, 'canceled']] as const;
    for (const [otpId, status] of ended) {
      assert.is(await report(process, sms, otpId), 'noted');
      await fixture.untilStatus(process, otpId, status, 'sms');
    }
    const expired = await issueSent(process, 'expired');
    fixture.setClock(300);
    assert.is(await report(process, sms, expired), 'noted');
    await fixture.untilStatus(process, expired, 'expired', 'sms');
    assert.is(await fixture.failureOf('expired'), 'sms: undelivered, error 30003');
    assert.equal([email.sent.length, process.events.length, await fixture.unsent()], [0, 0, 0]);
  });

test('only a sealed report counts, under any secret that is still configured', async () => {
  const sms = reporting();
  const first = fixture.process([sms]);
  const [one, two] = [await issueSent(first), await issueSent(first)];
  const [keyId, sealed] = sms.paths.get(one)!.split('/').slice(-2) as [string, string];
  const forged = [
    { otpId: two, keyId, sealed }, { otpId: one, keyId: 'other', sealed },
    { otpId: one, keyId, sealed: sms.paths.get(two)!.split('/').at(-1)! },
    { otpId: one, keyId, sealed: sealed.slice(0, 40) }, { otpId: one, keyId, sealed: '' },
    { otpId: one, keyId, sealed: 'A'.repeat(sealed.length) },
  ];
  for (const parts of forged) {
    const outcome = await first.delivery.report!({ ...parts, body: 'failed' }, () => true);
    assert.is(outcome.kind, 'unknown');
  }
  const [old] = [...fixture.secrets.byId.values()];
  const rotated = secretsOf(`new:${newSecretsText().split(':')[1]}`);
  const both = { current: rotated.current, byId: new Map([...rotated.byId, [old!.id, old!]]) };
  const without = fixture.process([sms], { secrets: rotated });
  assert.is(await report(without, sms, one), 'unknown');
  for (const otpId of [one, two]) await fixture.untilStatus(first, otpId, 'sent');
  assert.is(await report(fixture.process([sms], { secrets: both }), sms, one), 'noted');
  await fixture.untilStatus(first, one, 'failed');
});

test.run();
