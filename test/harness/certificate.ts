/** Self-signed certificates for tests. Node has no function that makes certificates. */
import { generateKeyPairSync, sign } from 'node:crypto';

/** In PEM. */
export type Certificate = Readonly<{ key: string; cert: string }>;

/** Tags of DER (X.690, 8). */
const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT = 0x06;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const VERSION = 0xa0;
const EXTENSIONS = 0xa3;
const DNS_NAME = 0x82;
const IP_ADDRESS = 0x87;

/** Encoded object identifiers. */
const ECDSA_WITH_SHA256 = '2a8648ce3d040302';
const COMMON_NAME = '550403';
const SUBJECT_ALT_NAME = '551d11';

function der(tag: number, ...parts: readonly (Buffer | string)[]): Buffer {
  const content = Buffer.concat(parts.map((part) =>
    (typeof part === 'string' ? Buffer.from(part, 'hex') : part)));
  const length = content.length < 128 ? [content.length]
    : content.length < 256 ? [0x81, content.length]
      : [0x82, content.length >> 8, content.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

type CertificateOptions = Readonly<{
  host?: string;
  /** IPv4. */
  address?: string;
  /** Two hex digits. */
  serial?: string;
}>;

/** Makes a certificate for one host and one address, in force from 2020 to 2099. */
export function createCertificate(
  { host = 'localhost', address = '127.0.0.1', serial = '01' }: CertificateOptions = {},
): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = der(SEQUENCE, der(OBJECT, ECDSA_WITH_SHA256));
  const attribute = der(SEQUENCE, der(OBJECT, COMMON_NAME), der(UTF8_STRING, Buffer.from(host)));
  const name = der(SEQUENCE, der(SET, attribute));
  const validity = der(SEQUENCE, der(UTC_TIME, Buffer.from('200101000000Z')),
    der(GENERALIZED_TIME, Buffer.from('20991231235959Z')));
  const names = der(SEQUENCE, der(DNS_NAME, Buffer.from(host)),
    der(IP_ADDRESS, Buffer.from(address.split('.').map(Number))));
  const extension = der(SEQUENCE, der(OBJECT, SUBJECT_ALT_NAME), der(OCTET_STRING, names));
  const signed = der(SEQUENCE, der(VERSION, der(INTEGER, '02')), der(INTEGER, serial), algorithm,
    name, validity, name, publicKey.export({ type: 'spki', format: 'der' }),
    der(EXTENSIONS, der(SEQUENCE, extension)));
  const signature = sign('sha256', signed, privateKey);
  const whole = der(SEQUENCE, signed, algorithm, der(BIT_STRING, '00', signature));
  const lines = whole.toString('base64').match(/.{1,64}/g)!.join('\n');
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
  };
}
