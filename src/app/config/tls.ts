/** The TLS certificate of the listener: two files, read and checked at the start and on SIGHUP. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { EnvReader } from './env-reader.ts';
import { tryCertificate } from '../../http/tls.ts';
import type { Certificate } from '../../http/tls.ts';

export type CertificateFiles = Certificate & Readonly<{ certFile: string; keyFile: string }>;

/** The member `name` of the reload events in the log. */
export const CERTIFICATE_VARIABLES = 'TLS_CERT and TLS_KEY';

/** Returns null when TLS_CERT and TLS_KEY are not set, or after an error. */
export function readCertificate(reader: EnvReader): CertificateFiles | null {
  const certFile = reader.text('TLS_CERT');
  const keyFile = reader.text('TLS_KEY');
  if (certFile === undefined && keyFile === undefined) return null;
  if (certFile === undefined || keyFile === undefined) {
    reader.errors.push('TLS_CERT and TLS_KEY must be set together');
    return null;
  }
  const cert = reader.readFile('TLS_CERT');
  const key = reader.readFile('TLS_KEY');
  if (cert === undefined || key === undefined) return null;
  const certificate = Object.freeze({ cert, key, certFile, keyFile });
  const error = findError(certificate);
  if (error === null) return certificate;
  reader.errors.push(error);
  return null;
}

/**
 * Reads the files of a certificate for a reload.
 *
 * @throws ConfigError with all errors
 */
export function rereadCertificate({ certFile, keyFile }: CertificateFiles): Certificate {
  const reader = new EnvReader({ TLS_CERT: certFile, TLS_KEY: keyFile });
  const certificate = readCertificate(reader);
  reader.throwErrors();
  return certificate!;
}

function findError(certificate: CertificateFiles): string | null {
  const { certFile, keyFile } = certificate;
  const first = parse(() => new X509Certificate(certificate.cert));
  if (first === null) return `TLS_CERT ${certFile}: is not a PEM certificate`;
  const key = parse(() => createPrivateKey(certificate.key));
  if (key === null) return `TLS_KEY ${keyFile}: is not a PEM private key without a passphrase`;
  if (!first.checkPrivateKey(key)) {
    return `TLS_KEY ${keyFile}: is not the key of the first certificate in TLS_CERT ${certFile}`;
  }
  try {
    tryCertificate(certificate);
    return null;
  } catch (error) {
    return `TLS_CERT ${certFile}: cannot be used (${(error as Error).message})`;
  }
}

function parse<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
