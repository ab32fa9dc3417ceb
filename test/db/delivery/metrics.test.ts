/** The metrics of message delivery. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeFamilies } from '../../../src/metrics/families.ts';
import type { Channel, SendResult } from '../../../src/otp/channels/channel.ts';
import { DeliveryCounts, deliveryFamilies } from '../../../src/otp/delivery/events.ts';
import { createPolicies } from '../../../src/otp/policy/policy.ts';
import { createOtpService } from '../../../src/otp/service.ts';
import { createTestDelivery } from '../../harness/delivery.ts';
import { parseExposition, valueOf } from '../../harness/exposition.ts';
import { newSweeper } from '../../harness/service.ts';
import { createGate, eventually } from '../../harness/waiting.ts';
import { ACCEPTED, REFUSED, RETRY, scripted, DeliveryFixture } from './delivery-fixture.ts';

let fixture: DeliveryFixture;
test.before.each(async () => { fixture = await DeliveryFixture.open(); });
test.after.each(() => fixture.close());

/** A service whose metrics are read by name and labels. */
function counted(channels: readonly Channel[]) {
  const counts = new DeliveryCounts(channels);
  const { database: { pool }, secrets } = fixture;
  const deps = { pool, policies: createPolicies(), secrets };
  const delivery = createTestDelivery({ ...deps, channels, counts });
  const service = createOtpService({ ...deps, delivery, sweeper: newSweeper(deps) });
  return {
    process: { service, delivery, events: [], stop: () => delivery.stop(2000) },
    value: (name: string, labels: Record<string, string> = {}) =>
      valueOf(parseExposition(encodeFamilies(deliveryFamilies(counts))), name, labels),
  };
}

test('attempts are counted by channel and result, and closed OTPs by reason', async () => {
  const { process, value } = counted([
    scripted('sms', REFUSED), scripted('email', ACCEPTED, REFUSED)]);
  await fixture.issue(process);
  await fixture.issue(process);
  await eventually('both have ended', () =>
    value('otpd_deliveries_total', { channel: 'email', result: 'accepted' }) === 1
      && value('otpd_codes_failed_total', { reason: 'refused' }) === 1);
  assert.is(value('otpd_deliveries_total', { channel: 'sms', result: 'refused' }), 2);
  assert.is(value('otpd_deliveries_total', { channel: 'email', result: 'refused' }), 1);
  assert.is(value('otpd_deliveries_total', { channel: 'email', result: 'retry' }), 0);
  assert.is(value('otpd_codes_failed_total', { reason: 'expired' }), 0);
  await process.stop();
});

test('paused channels, pending messages and reclaimed messages are counted', async () => {
  const { process, value } = counted([scripted('sms', RETRY)]);
  await Promise.all(Array.from({ length: 6 }, () => fixture.issue(process)));
  await eventually('it is paused', () => value('otpd_channel_paused', { channel: 'sms' }) === 1);
  assert.ok(value('otpd_deliveries_total', { channel: 'sms', result: 'retry' }) >= 5);
  assert.is(value('otpd_outbox_messages'), 6);
  assert.ok(value('otpd_outbox_oldest_seconds') > 0);
  await process.stop();
  fixture.setClock(40);
  const gate = createGate();
  const held = (): Promise<SendResult> => gate.promise.then(() => ACCEPTED);
  const successor = counted([scripted('sms', held)]);
  assert.is(successor.value('otpd_outbox_oldest_seconds'), 0);
  successor.process.delivery.start();
  await eventually('they are taken over', () =>
    successor.value('otpd_messages_taken_over_total') === 6);
  // The age counts from the request, in whichever process.
  assert.ok(successor.value('otpd_outbox_oldest_seconds') >= 40);
  gate.open();
  await eventually('they are sent', () =>
    successor.value('otpd_deliveries_total', { channel: 'sms', result: 'accepted' }) === 6
      && successor.value('otpd_outbox_oldest_seconds') === 0);
  assert.is(successor.value('otpd_channel_paused', { channel: 'sms' }), 0);
  await successor.process.stop();
});

test.run();
