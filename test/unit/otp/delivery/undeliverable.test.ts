import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decideFailure } from '../../../../src/otp/delivery/undeliverable.ts';
import { DEFAULT_POLICY } from '../../../../src/otp/policy/policy.ts';
import type { IpWindow } from '../../../../src/otp/rules/ip-limit.ts';
import { at, NOW, otpWith, usedAgo } from '../fixtures.ts';

const OTP = otpWith({ createdAt: at(-10), expiresAt: at(290) });
const SLOT = { slot: 0, usedAt: at(-10), points: 2, refunded: 0 };
const ADDRESS: IpWindow = {
  slots: [SLOT, { ...SLOT, slot: 1, usedAt: at(-5) }], overflow: null,
};

function decide(
  otp = OTP,
  others = [] as typeof OTP[],
  window: IpWindow | null = ADDRESS,
  subject = '192.0.2.1',
) {
  const windows = window === null ? [] : [{ subject, window }];
  return decideFailure({ now: NOW, otp, otps: [otp, ...others], windows }, DEFAULT_POLICY);
}

/** OTPs whose points were refunded `ago` seconds ago. */
function refunded(count: number, ago = 100) {
  return Array.from({ length: count }, (_, index) => otpWith({
    number: 2 + index, otpId: `${index}`.repeat(32), createdAt: at(-ago), isRefunded: true,
  }));
}

test('the OTP is closed, and one point of the user and one of the client IP are refunded', () => {
  const writes = decide();
  assert.equal(writes?.otp, { ...OTP, digest: null, closeReason: 'failed', isRefunded: true });
  assert.equal(writes?.refunds[0]?.change.write, {
    kind: 'slot', slot: { ...SLOT, points: 1, refunded: 1 },
  });
  assert.is(writes?.refunds[0]?.change.after.slots.length, 2);
});

test('a redeemed OTP has reached its user and does not change', () => {
  assert.is(decide({ ...OTP, redeemedAt: at(-1), digest: null }), null);
});

test('a closed OTP does not change', () => {
  assert.is(decide({ ...OTP, closeReason: 'canceled', digest: null }), null);
  assert.is(decide({ ...OTP, closeReason: 'failed', digest: null, isRefunded: true }), null);
});

test('at most as many points of a user as the limit has are refunded in a window', () => {
  assert.is(decide(OTP, refunded(2))?.otp.isRefunded, true);
  assert.is(decide(OTP, refunded(3))?.otp.isRefunded, false);
  assert.is(decide(OTP, refunded(3, 900))?.otp.isRefunded, true);
});

test('the refunds of a client IP are limited too, and need a point to refund', () => {
  const full = { slots: [SLOT, { ...SLOT, slot: 1, refunded: 8 }], overflow: null };
  assert.equal(decide(OTP, [], full)?.refunds, []);
  const over = { ...SLOT, slot: 1, usedAt: at(-900), refunded: 8 };
  const old = { slots: [SLOT, over], overflow: null };
  assert.is(decide(OTP, [], old)?.refunds.length, 1);
  assert.equal(decide(OTP, [], { slots: usedAgo(9, 11), overflow: null })?.refunds, []);
  assert.equal(decide(OTP, [], { slots: [{ ...SLOT, points: 0 }], overflow: null })?.refunds, []);
  assert.equal(decide(OTP, [], null)?.refunds, []);
});

test('the bound of the refunds is the quota of the limit that the subject belongs to', () => {
  const refundedTimes = (times: number) => ({
    slots: [SLOT, { ...SLOT, slot: 1, refunded: times }], overflow: null,
  });
  for (const [subject, quota] of [
    ['192.0.2.1', 8], ['2001:db8::/64', 8], ['2001:db8::/48', 128], ['recipient:0123', 5],
  ] as const) {
    assert.is(decide(OTP, [], refundedTimes(quota - 1), subject)?.refunds.length, 1, subject);
    assert.equal(decide(OTP, [], refundedTimes(quota), subject)?.refunds, [], subject);
  }
});

test('a point outside the window is not refunded', () => {
  const otp = { ...OTP, createdAt: at(-900) };
  const slots = [{ ...SLOT, usedAt: at(-900) }];
  const writes = decide(otp, [], { slots, overflow: null });
  assert.is(writes?.otp.closeReason, 'failed');
  assert.is(writes?.otp.isRefunded, false);
  assert.equal(writes?.refunds, []);
});

test.run();
