/** What the listener takes of TLS: 1.2 and up, and HTTP/1.1 alone. */
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';

/** A private key, and its certificate with those of the authorities in between: PEM texts. */
export type Certificate = Readonly<{ cert: string; key: string }>;

/** The protocols that are offered during the handshake (RFC 7301). */
export const PROTOCOLS = Object.freeze(['http/1.1']);

/** The settings of a listener with a certificate (RFC 9325, 3.1.1: TLS 1.2 at least). */
export function secureOptions({ cert, key }: Certificate): SecureContextOptions {
  return { cert, key, minVersion: 'TLSv1.2' };
}

/**
 * Whether connections can be answered with a certificate.
 *
 * @throws Error saying what OpenSSL finds wrong with it
 */
export function tryCertificate(certificate: Certificate): void {
  createSecureContext(secureOptions(certificate));
}
