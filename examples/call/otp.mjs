// Requests a code for a user, reads it from standard input and verifies it.
// Start: OTPD_URL=http://127.0.0.1:3000 node examples/call/otp.mjs person@example.com
import { createInterface } from 'node:readline/promises';
import { createClient } from '../../client/index.js';

const { OTPD_URL = 'http://127.0.0.1:3000', OTPD_KEY } = process.env;
const otpd = createClient({ url: OTPD_URL, apiKey: OTPD_KEY });
const pair = { userId: process.argv[2], purpose: 'login' };
if (!pair.userId) {
  console.error('usage: node examples/call/otp.mjs USER');
  process.exit(2);
}

const sent = await otpd.request(pair);
console.log(sent.kind);
if (sent.kind !== 'sent') process.exit(1);

const terminal = createInterface({ input: process.stdin });
for await (const code of terminal) {
  const outcome = await otpd.verify({ ...pair, otpId: sent.otpId, code: code.trim() });
  console.log(outcome.kind);
  if (outcome.kind !== 'invalid_code') process.exit(outcome.kind === 'verified' ? 0 : 1);
}
