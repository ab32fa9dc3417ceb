/** What a token of a trusted device says, without its proof (docs/api.md, "Trusted devices"). */
import { Buffer } from 'node:buffer';

const DEVICE_BYTES = 8;

/** The device in hexadecimal digits, and the time of issue in seconds. */
export function parseDeviceToken(token: string): { device: string; issuedAt: number } {
  const bytes = Buffer.from(token.slice(token.indexOf('.') + 1), 'base64url');
  return {
    device: bytes.toString('hex', 0, DEVICE_BYTES),
    issuedAt: bytes.readUInt32BE(DEVICE_BYTES),
  };
}
