// A receiver for the webhook channel, for Node.js without packages. It prints each message.
// Start: SECRET=whsec_… node examples/webhook-receiver.mjs
import { createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

const TOLERANCE_SECONDS = 300;
const { SECRET = '', PORT = '8080' } = process.env;
const key = Buffer.from(SECRET.replace('whsec_', ''), 'base64');
if (key.length === 0) {
  console.error('usage: SECRET=whsec_… node examples/webhook-receiver.mjs');
  process.exit(2);
}

function isGenuine(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp } = headers;
  const mac = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body);
  const expected = Buffer.from(`v1,${mac.digest('base64')}`);
  // Several signatures are present while the secret is being changed; one match is enough.
  const isSigned = String(headers['webhook-signature']).split(' ')
    .map((signature) => Buffer.from(signature))
    .some((signature) => signature.length === expected.length
      && timingSafeEqual(signature, expected));
  return isSigned && Math.abs(Date.now() / 1000 - timestamp) <= TOLERANCE_SECONDS;
}

const server = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const genuine = isGenuine(request.headers, body);
  if (genuine) console.log(JSON.parse(body));
  response.writeHead(genuine ? 204 : 403).end();
});

try {
  await once(server.listen(Number(PORT), '127.0.0.1'), 'listening');
} catch ({ message }) {
  console.error(`${message}; set PORT to a free port`);
  process.exitCode = 1;
}
