/**
 * The configuration: read once from the environment and the file `.env`, validated as a whole, and
 * passed on as a frozen value. No other file reads the environment.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEnv } from 'node:util';
import { readDelivery } from './channels.ts';
import type { DeliverySettings } from './channels.ts';
import { NO_DATABASE, readServers } from './database.ts';
import type { DatabaseSettings } from '../../db/connection.ts';
import type { Instant } from '../../db/instant.ts';
import { ConfigError, PORT_MAX, EnvReader } from './env-reader.ts';
import type { Environment } from './env-reader.ts';
import { parseApiKeys } from '../../http/input/api-keys.ts';
import type { ParsedApiKeys } from '../../http/input/api-keys.ts';
import { parseAllowedHosts, parseAllowedOrigins } from '../../http/input/browsers.ts';
import { parseTrustedProxies } from '../../http/input/client-ip.ts';
import type { TrustedProxies } from '../../http/input/client-ip.ts';
import type { LogSettings } from '../log/log.ts';
import { parseSecrets } from '../../otp/crypto/secrets.ts';
import type { Secrets } from '../../otp/crypto/secrets.ts';
import { parsePolicies } from '../../otp/policy/policy-file.ts';
import { createPolicies } from '../../otp/policy/policy.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import { findLateEnds } from '../../otp/policy/test-identities.ts';
import type { TemplateSet } from '../../otp/templates/load.ts';
import { readCertificate } from './tls.ts';
import type { CertificateFiles } from './tls.ts';

/** The configuration that every command uses. */
export type Config = Readonly<{
  host: string;
  port: number;
  /** The listener for health and metrics; null: none. */
  admin: Readonly<{ host: string; port: number }> | null;
  /** The hosts of the database, at least one. */
  servers: readonly DatabaseSettings[];
  /** `before`: no member of a group answers before it has what the group has committed. */
  consistency: 'before' | null;
  connections: number;
  /** The number of serving processes. The limits hold over all of them. */
  workers: number;
  /** The time for which an idle connection stays open. */
  keepAliveSeconds: number;
  trustedProxies: TrustedProxies;
  /** The origins whose pages may call from a browser. */
  allowedOrigins: ReadonlySet<string>;
  /** The names of the admin listener. */
  adminHosts: ReadonlySet<string>;
  /** Null: the endpoints are public. */
  apiKeys: ParsedApiKeys | null;
  /** Null when the API keys come from API_KEYS. */
  apiKeysFile: string | null;
  policies: Policies;
  /** Null when the default policy is in force. */
  policyFile: string | null;
  secrets: Secrets;
  log: LogSettings;
}>;

/** The configuration of `serve`. */
export type ServeConfig = Config & Readonly<{
  /** Null when the listener speaks plain HTTP. */
  certificate: CertificateFiles | null;
  delivery: DeliverySettings;
  /** The content of openapi.json, which otpd serves. */
  description: Buffer;
  /** The page for a support desk; null without an admin listener or without API keys. */
  supportPage: Buffer | null;
}>;

/** The folder of package.json, which contains both src and dist. */
export const PROJECT_FOLDER = fileURLToPath(new URL('../../..', import.meta.url));

/** The folder of `.env`: an installed package has none of its own, and uses the working folder. */
const ENV_FOLDER = basename(dirname(PROJECT_FOLDER)) === 'node_modules' ? process.cwd()
  : PROJECT_FOLDER;

export function envFilePath(folder: string = ENV_FOLDER): string {
  return join(folder, '.env');
}

/** Merges the file `.env` with the variables of the process, which take precedence. */
export function readEnvironment(folder: string = ENV_FOLDER): Environment {
  const path = envFilePath(folder);
  const file = existsSync(path) ? parseEnv(readFileSync(path, 'utf8')) : {};
  return { ...file, ...process.env };
}

/**
 * Reads the configuration of a command. `.env.example` explains every variable.
 *
 * @throws ConfigError with all errors at once, and no secret value
 */
export function readConfig(environment: Environment): Config {
  const reader = new EnvReader(environment);
  const config = readCommon(reader);
  throwErrors(reader);
  return Object.freeze(config);
}

/** Like readConfig, for `serve`. */
export function readServeConfig(environment: Environment): ServeConfig {
  const reader = new EnvReader(environment);
  const config = readCommon(reader);
  const certificate = readCertificate(reader);
  const delivery = readDelivery(reader, config.policies);
  const description = readPart(reader, 'openapi.json');
  const supportPage = config.admin === null || config.apiKeys === null ? null
    : readPart(reader, 'pages/support.html');
  throwErrors(reader);
  return Object.freeze({ ...config, certificate, delivery: delivery!, description, supportPage });
}

/** What `preview` needs: messages depend on no database and no secret. */
export function readMessageConfig(
  environment: Environment,
): Pick<ServeConfig, 'policies' | 'delivery'> {
  const reader = new EnvReader(environment);
  const policies = readPolicies(reader);
  const delivery = readDelivery(reader, policies);
  throwErrors(reader);
  return { policies: policies!, delivery: delivery! };
}

/** A start without any configuration prints one line instead of a list with one entry. */
function throwErrors(reader: EnvReader): void {
  const { errors } = reader;
  if (errors.length === 1 && errors[0] === NO_DATABASE) {
    throw new ConfigError(NO_DATABASE, { errors });
  }
  reader.throwErrors();
}

/** Values may be null after an error, which throwErrors then reports. */
function readCommon(reader: EnvReader): Config {
  const servers = readServers(reader);
  const secrets = readSecrets(reader, servers !== null);
  return {
    host: reader.text('HOST') ?? '127.0.0.1',
    port: reader.whole('PORT', 3000, 0, PORT_MAX),
    admin: readAdmin(reader),
    servers: servers!,
    consistency: reader.choice('DB_CONSISTENCY', ['before']),
    connections: reader.whole('DB_CONNECTIONS', 16, 1, 500),
    workers: reader.whole('WORKERS', 1, 1, 64),
    // Up to twice the longest keep-alive time that usual proxies have.
    keepAliveSeconds: reader.whole('HTTP_KEEP_ALIVE_SECONDS', 75, 1, 7200),
    trustedProxies: readProxies(reader),
    allowedOrigins: readAllowedOrigins(reader),
    adminHosts: readAdminHosts(reader),
    apiKeys: readApiKeys(reader),
    apiKeysFile: reader.text('API_KEYS_FILE') ?? null,
    policies: readPolicies(reader)!,
    policyFile: reader.text('POLICY_FILE') ?? null,
    secrets: secrets!,
    log: readLog(reader),
  };
}

/** Reads a file that is a part of otpd, like the schema and the messages. */
function readPart(reader: EnvReader, name: string): Buffer {
  const path = join(PROJECT_FOLDER, name);
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    reader.errors.push(`${path} cannot be read (${code}); it is a part of otpd, like schema/ and`
      + ' messages/: copy it there');
    return Buffer.alloc(0);
  }
}

function readAdmin(reader: EnvReader): Config['admin'] {
  const host = reader.text('ADMIN_HOST') ?? '127.0.0.1';
  if (reader.text('ADMIN_PORT') === undefined) return null;
  return Object.freeze({ host, port: reader.whole('ADMIN_PORT', 0, 0, PORT_MAX) });
}

const NO_SECRETS = 'OTP_SECRETS must be set; npm run -s secret creates one (in production:'
  + ' node dist/main.js secret new)';

/** Without a database, missing secrets are not reported: the first error to fix is the database. */
function readSecrets(reader: EnvReader, hasDatabase: boolean): Secrets | null {
  const text = reader.secretText('OTP_SECRETS');
  if (text === undefined) {
    if (hasDatabase && !reader.hasSecret('OTP_SECRETS')) reader.errors.push(NO_SECRETS);
    return null;
  }
  const parsed = parseSecrets(text);
  if ('secrets' in parsed) return parsed.secrets;
  reader.errors.push(...parsed.errors.map((error) => `OTP_SECRETS: ${error}`));
  return null;
}

function readProxies(reader: EnvReader): TrustedProxies {
  const { proxies, errors } = parseTrustedProxies(reader.text('TRUSTED_PROXIES') ?? '');
  reader.errors.push(...errors.map((error) => `TRUSTED_PROXIES: ${error}`));
  return proxies;
}

function readAllowedOrigins(reader: EnvReader): ReadonlySet<string> {
  const { origins, errors } = parseAllowedOrigins(reader.text('ALLOWED_ORIGINS') ?? '');
  reader.errors.push(...errors.map((error) => `ALLOWED_ORIGINS: ${error}`));
  return origins;
}

function readAdminHosts(reader: EnvReader): ReadonlySet<string> {
  const { hosts, errors } = parseAllowedHosts(reader.text('ADMIN_ALLOWED_HOSTS') ?? '');
  reader.errors.push(...errors.map((error) => `ADMIN_ALLOWED_HOSTS: ${error}`));
  return hosts;
}

function readApiKeys(reader: EnvReader): ParsedApiKeys | null {
  const text = reader.secretText('API_KEYS');
  if (text === undefined) return null;
  const { apiKeys, errors } = parseApiKeys(text);
  reader.errors.push(...errors.map((error) => `API_KEYS: ${error}`));
  return apiKeys;
}

/**
 * Reads the file of the API keys for a reload.
 *
 * @throws ConfigError with all errors, and the statement that the keys in force stay
 */
export function rereadApiKeys(path: string): ParsedApiKeys {
  const reader = new EnvReader({ API_KEYS_FILE: path });
  const apiKeys = readApiKeys(reader);
  throwKept('the API keys in force stay; the new ones are at fault:', reader.errors);
  return apiKeys!;
}

/** Reports the errors of a reload, after which the earlier content stays in force. */
function throwKept(statement: string, errors: readonly string[]): void {
  if (errors.length > 0) throw new ConfigError([statement, ...errors].join('\n  '), { errors });
}

function readLog(reader: EnvReader): LogSettings {
  return Object.freeze({
    level: reader.choice('LOG_LEVEL', ['info', 'warn', 'error']) ?? 'info',
    format: reader.choice('LOG_FORMAT', ['json', 'text']),
    isRaw: reader.choice('LOG_RAW_IDS', ['0', '1']) === '1',
  });
}

/** Each error names the file, the path of the member and the allowed range. */
function readPolicies(reader: EnvReader): Policies | null {
  const errorsBefore = reader.errors.length;
  const text = reader.readFile('POLICY_FILE');
  if (text === undefined) return reader.errors.length === errorsBefore ? createPolicies() : null;
  const parsed = parsePolicies(text);
  if ('policies' in parsed) return parsed.policies;
  const path = reader.text('POLICY_FILE');
  reader.errors.push(...parsed.errors.map((error) => `POLICY_FILE ${path}: ${error}`));
  return null;
}

function lateEnds(path: string, { testIdentities }: Policies, now: Instant): string[] {
  return findLateEnds(testIdentities, now).map((error) => `POLICY_FILE ${path}: ${error}`);
}

/**
 * Checks the policies by the clock of this machine, which readConfig does not know.
 *
 * @throws ConfigError when a test identity lasts for too long
 */
export function checkTestIdentities({ policyFile, policies }: Config, now: Instant): void {
  const errors = policyFile === null ? [] : lateEnds(policyFile, policies, now);
  if (errors.length === 0) return;
  throw new ConfigError(['the configuration is invalid:', ...errors].join('\n  '), { errors });
}

/**
 * Reads the policy file for a reload.
 *
 * @param templates are checked with the new labels
 * @param now the clock of this machine
 * @throws ConfigError with all errors, and the statement that the policy in force stays
 */
export function rereadPolicies(path: string, templates: TemplateSet, now: Instant): Policies {
  const reader = new EnvReader({ POLICY_FILE: path });
  const policies = readPolicies(reader);
  const { errors } = reader;
  if (policies !== null) {
    errors.push(...templates.validate(policies), ...lateEnds(path, policies, now));
  }
  throwKept('the policy in force stays; the new one is at fault:', errors);
  return policies!;
}
