/** A message, templates for it, and the cleanup of what a test file starts. */
import { randomBytes } from 'node:crypto';
import type { Channel, Message, Templates } from '../../../../src/otp/channels/channel.ts';
import { randomCode, randomHex } from '../../../../src/otp/crypto/random.ts';
import { startHttpSink } from '../../../harness/http-sink.ts';
import type { HttpSink, SinkOptions } from '../../../harness/http-sink.ts';

/** 2026-01-05 08:00:00.123456 UTC. */
export const SENT_AT = 1_767_600_000_123_456;

/** A letter outside ASCII makes lengths in bytes and characters differ. */
export const TEMPLATES: Templates = {
  text: ({ code, purpose }) => `Ihr Schlüssel für ${purpose}: ${code} & 100 %`,
  email: () => { throw new Error('no mail is sent here'); },
  localeFor: () => '',
};

/** A message with a random code, so that the code cannot occur elsewhere by chance. */
export function newMessage(members: Partial<Message> = {}): Message {
  return {
    otpId: randomHex(16),
    userId: '+14155550123',
    purpose: 'login',
    code: randomCode(10),
    lifetimeSeconds: 300,
    expiresAt: SENT_AT + 300_000_000,
    locale: '',
    ...members,
  };
}

/** A secret in the format of WEBHOOK_SECRETS. */
export function newWebhookSecret(bytes = 32): string {
  return `whsec_${randomBytes(bytes).toString('base64')}`;
}

const ends: (() => Promise<void> | void)[] = [];

/** Starts a sink that `endAll` closes. */
export async function startSink(options: SinkOptions = {}): Promise<HttpSink> {
  const sink = await startHttpSink(options);
  ends.push(() => sink.close());
  return sink;
}

/** Registers an object for `endAll` to close. */
export function closing<T extends Pick<Channel, 'close'>>(closeable: T): T {
  ends.push(closeable.close);
  return closeable;
}

/** Registers work for `endAll`. */
export function atEnd(work: () => Promise<void> | void): void {
  ends.push(work);
}

export async function endAll(): Promise<void> {
  for (const end of ends.splice(0).reverse()) await end();
}
