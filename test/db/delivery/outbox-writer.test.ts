/** When accepted messages are erased from the outbox, and by which transaction. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { monotonicMs, EstimatedClock } from '../../../src/db/clock.ts';
import { Unavailable } from '../../../src/db/errors.ts';
import { addSeconds } from '../../../src/db/instant.ts';
import type { ConnectionPool } from '../../../src/db/pool.ts';
import type { Hex, Write } from '../../../src/db/query.ts';
import { insertBatches } from '../../../src/db/tables/outbox.ts';
import { transaction } from '../../../src/db/transaction.ts';
import type { Rider, Transaction } from '../../../src/db/transaction.ts';
import { createOtpIds } from '../../../src/otp/crypto/secrets.ts';
import { randomBatchId, randomOwner } from '../../../src/otp/crypto/random.ts';
import { OutboxBatch } from '../../../src/otp/delivery/outbox-batch.ts';
import { OutboxWriter } from '../../../src/otp/delivery/outbox-writer.ts';
import { Outbox } from '../../../src/otp/delivery/outbox.ts';
import { PendingMessage } from '../../../src/otp/delivery/pending-message.ts';
import { createPolicies } from '../../../src/otp/policy/policy.ts';
import { eventually } from '../../harness/waiting.ts';
import { ACCEPTED, scripted, DeliveryFixture, START } from './delivery-fixture.ts';

let fixture: DeliveryFixture;
test.before.each(async () => { fixture = await DeliveryFixture.open(); });
test.after.each(() => fixture.close());

const LEASED_UNTIL = addSeconds(START, 20);

/** Stores `count` messages, each in its own batch. */
async function stored(count: number, owner: Hex): Promise<PendingMessage[]> {
  const { secrets: { current }, database: { pool } } = fixture;
  const lease = { clock: new EstimatedClock(START, monotonicMs()), leasedUntil: LEASED_UNTIL };
  const messages = Array.from({ length: count }, (_, index) => {
    const batchId = randomBatchId();
    const [otpId] = createOtpIds(current, batchId, 1);
    const message = { otpId: otpId!, userId: `u${index}`, purpose: 'login', code: '123456',
      lifetimeSeconds: 300, expiresAt: addSeconds(START, 300), locale: '' };
    const outboxMessage = { message, subjects: [], plannedChannel: 'sms' };
    const batch = new OutboxBatch(batchId, [outboxMessage], lease);
    return new PendingMessage(outboxMessage, batch, false);
  });
  const sealed = messages.map(({ batch }) => batch.seal(current));
  await transaction(pool, async (tx) => {
    tx.writes.push(insertBatches(sealed, { owner, leasedUntil: LEASED_UNTIL }));
  });
  return messages;
}

/** A writer of stored messages that were just accepted. */
async function writerOf(count: number) {
  const owner = randomOwner();
  const { database: { pool }, secrets } = fixture;
  const erased: Hex[] = [];
  const writer = new OutboxWriter({
    outbox: new Outbox({ pool, policies: createPolicies(), secrets, owner }),
    onEvent: () => {},
    onSaved: (batches) => erased.push(...batches.map(({ batchId }) => batchId)),
  });
  for (const pending of await stored(count, owner)) writer.settle(pending);
  return { writer, erased };
}

/** An eraser whose transaction is about to commit. */
function beginErasing(writer: OutboxWriter, requests: number) {
  const writes: Write[] = [];
  const rider = writer.createEraser(requests);
  void rider.beforeCommit({ writes } as unknown as Transaction);
  return { rider, writes };
}

test('a transaction that commits anyway erases accepted messages', async () => {
  const { writer, erased } = await writerOf(32);
  let beforeCommit: unknown = null;
  const observer: Rider = {
    beforeCommit: ({ writes }) => {
      beforeCommit = [writes.map(({ name, values }) => [name, values.length]), writer.isBusy];
    },
    afterCommit: () => {},
  };
  await transaction(fixture.database.pool, async (tx) => {
    tx.riders.push(writer.createEraser(1), writer.createEraser(1000), observer);
  });
  assert.equal(beforeCommit, [[['outbox.delete', 32]], true], 'nothing is given away twice');
  assert.is(erased.length, 32);
  assert.equal([writer.isBusy, await fixture.unsent()], [false, 0]);
});

test('after a rollback of that transaction the writer erases them', async () => {
  const { writer, erased } = await writerOf(2);
  const { rider, writes } = beginErasing(writer, 16);
  assert.is(writes.length, 1);
  rider.afterCommit(false);
  assert.equal(erased, []);
  await eventually('they are erased', () => erased.length === 2);
  assert.equal([writer.isBusy, await fixture.unsent()], [false, 0]);
});

test('a few batches are not offered to a small transaction', async () => {
  const { writer, erased } = await writerOf(2);
  const { rider, writes } = beginErasing(writer, 15);
  assert.is(writes.length, 0);
  rider.afterCommit(true);
  await eventually('they are erased', () => erased.length === 2);
  assert.is(await fixture.unsent(), 0);
});

test('a message that is accepted during the erasure is erased too', async () => {
  const { writer, erased } = await writerOf(1);
  const { rider } = beginErasing(writer, 32);
  const [late] = await stored(1, randomOwner());
  writer.settle(late!);
  await eventually('the late one is erased', () => erased.length === 1);
  assert.equal(erased, [late!.batch.batchId]);
  rider.afterCommit(false);
  await eventually('the other is erased', () => erased.length === 2);
  assert.is(await fixture.unsent(), 0);
});

test('the commit of new OTPs erases earlier messages', async () => {
  const channel = scripted('sms', ACCEPTED);
  const acquire = () => Promise.reject(new Unavailable('the delivery has no connection'));
  const pool = Object.assign(Object.create(fixture.database.pool) as ConnectionPool, { acquire });
  const process = fixture.process([channel], { pool });
  const { otpId } = await fixture.issue(process);
  const isPending = async (): Promise<boolean> => {
    const outcome = await fixture.statusOf(process, otpId);
    return outcome.kind === 'known' && outcome.status === 'pending';
  };
  await eventually('it is accepted', () => channel.sent.length === 1);
  assert.is(await isPending(), true);
  await eventually('it is erased', async () => {
    await Promise.all(Array.from({ length: 40 }, () =>
      fixture.issue(process, undefined, undefined, fixture.newName('10.1.'))));
    return !(await isPending());
  });
});

test.run();
