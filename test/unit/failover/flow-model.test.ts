/** The model of a flow: which answers it takes, and what a client repeats. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FlowModel } from '../../failover/flow-model.ts';
import type { Answer } from '../../soak/wire.ts';

const OTP_ID = '0123456789abcdef0123456789abcdef';

function answer(status: number, body: string, head = ''): Answer {
  return { status, body, head: `HTTP/1.1 ${status}${head}`, ms: 1 };
}

const REPLAYED = '\r\nIdempotent-Replayed: true';
const ISSUED = `{"otp_id":"${OTP_ID}","ttl":300,"remaining_requests":2}`;
const REDEEMED = '{"success":true,"message":"verification_successful"}';
const UNAVAILABLE = answer(503, '{"error":"unavailable"}');
const VERIFIED = answer(200, `{"otp_id":"${OTP_ID}","purpose":"login","status":"verified"}`);

function wrongCode(left: number): Answer {
  return answer(401, `{"error":"invalid_code","attempts_remaining":${left}}`);
}

function issued(): FlowModel {
  const model = new FlowModel();
  assert.is(model.judge('request', answer(201, ISSUED)), 'next');
  return model;
}

test('a flow without a fault is right in every step', () => {
  const model = issued();
  assert.is(model.otpId, OTP_ID);
  assert.is(model.judge('wrong', wrongCode(2)), 'next');
  assert.is(model.judge('right', answer(200, REDEEMED)), 'next');
  assert.is(model.judge('again', answer(410, '{"error":"code_used"}')), 'next');
  assert.is(model.judge('status', VERIFIED), 'next');
  assert.is(model.judge('replay', answer(201, ISSUED, REPLAYED)), 'next');
  assert.equal([model.wrong, model.redeemedTwice, model.isRedeemed], [[], 0, true]);
});

test('a client repeats a request that was unanswered, and a replay is right then only', () => {
  const model = new FlowModel();
  assert.is(model.judge('request', null), 'repeat');
  assert.is(model.judge('request', UNAVAILABLE), 'repeat');
  assert.is(model.judge('request', answer(201, ISSUED, REPLAYED)), 'next');
  assert.equal(model.wrong, []);
  const fresh = new FlowModel();
  fresh.judge('request', answer(201, ISSUED, REPLAYED));
  assert.is(fresh.wrong.length, 1);
});

test('two wrong codes without an answer are the last, because a third would lock the pair', () => {
  const model = issued();
  assert.is(model.judge('wrong', UNAVAILABLE), 'repeat');
  assert.is(model.judge('wrong', null), 'next');
  assert.is(model.judge('right', answer(200, REDEEMED, REPLAYED)), 'end');
  assert.is(model.wrong.length, 1);
});

test('an unanswered wrong code may have counted, and an answered one counts once', () => {
  const doubtful = issued();
  doubtful.judge('wrong', null);
  doubtful.judge('wrong', wrongCode(1));
  assert.equal(doubtful.wrong, []);
  const certain = issued();
  certain.judge('wrong', wrongCode(1));
  assert.is(certain.wrong.length, 1);
});

test('a known code that is called unknown is wrong and ends its flow', () => {
  const model = issued();
  assert.is(model.judge('right', answer(404, '{"error":"otp_not_found"}')), 'end');
  assert.equal(model.wrong,
    ['right after 0 without an answer: 404 {"error":"otp_not_found"}']);
});

test('a code that is redeemed under a second key counts as redeemed twice', () => {
  const model = issued();
  model.judge('right', answer(200, REDEEMED));
  assert.is(model.judge('again', answer(200, REDEEMED)), 'end');
  assert.equal([model.redeemedTwice, model.wrong.length], [1, 1]);
});

test('a status from before the redemption, and another 201 for the same key, are wrong', () => {
  const model = issued();
  model.judge('right', answer(200, REDEEMED));
  model.judge('status', answer(200, `{"otp_id":"${OTP_ID}","status":"sent"}`));
  model.judge('replay', answer(201, ISSUED));
  model.judge('replay', answer(201, ISSUED.replace(OTP_ID, 'f'.repeat(32)), REPLAYED));
  assert.is(model.wrong.length, 3);
});

test('an answer of 500, and a 503 in other words, are wrong', () => {
  const model = new FlowModel();
  model.judge('request', answer(503, 'upstream timed out'));
  model.judge('request', answer(500, '{"error":"internal"}'));
  assert.is(model.wrong.length, 2);
});

test.run();
