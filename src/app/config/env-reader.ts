/** Reads single environment variables and collects their errors. */
import { readFileSync } from 'node:fs';
import { readSecretFile } from '../secret-file.ts';

/** An unusable configuration; the message contains every error. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  /** The single errors; empty when `cause` explains the error instead. */
  readonly errors: readonly string[];

  constructor(message: string, options: { errors?: readonly string[]; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.errors = options.errors ?? [];
  }
}

/** The highest port (RFC 9293, 3.1). */
export const PORT_MAX = 65_535;

export type Environment = Readonly<Record<string, string | undefined>>;

/** The variables that contain a secret, and those that name a file which contains it instead. */
export const SECRET_FILES = Object.freeze({
  DB_PASSWORD: 'DB_PASSWORD_FILE',
  OTP_SECRETS: 'OTP_SECRETS_FILE',
  API_KEYS: 'API_KEYS_FILE',
  SMS_TOKEN: 'SMS_TOKEN_FILE',
  SMTP_URL: 'SMTP_URL_FILE',
  WEBHOOK_SECRETS: 'WEBHOOK_SECRETS_FILE',
} as const);

type SecretName = keyof typeof SECRET_FILES;

/** An empty variable counts as not set. */
export class EnvReader {
  readonly errors: string[] = [];
  /** The secrets whose file cannot be used: that is the only error to report about them. */
  readonly #unread = new Set<SecretName>();
  readonly #environment: Environment;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** The value with the white space around it, which a password may contain. */
  raw(name: string): string | undefined {
    return this.#environment[name];
  }

  text(name: string): string | undefined {
    return this.raw(name)?.trim() || undefined;
  }

  /** True when a secret, or the file for it, is named. */
  hasSecret(name: SecretName): boolean {
    return this.text(name) !== undefined || this.text(SECRET_FILES[name]) !== undefined;
  }

  /** A secret exactly as given. One line end at the end of its file does not belong to it. */
  secret(name: SecretName): string | undefined {
    const variable = SECRET_FILES[name];
    const path = this.text(variable);
    if (path === undefined) return this.raw(name);
    const read = this.text(name) === undefined ? readSecretFile(path)
      : { error: `and ${name} exclude each other; remove one of them` };
    if (typeof read === 'string') return read;
    this.#unread.add(name);
    this.errors.push(`${variable} ${read.error}`);
    return undefined;
  }

  /** A secret without the white space around it. */
  secretText(name: SecretName): string | undefined {
    return this.secret(name)?.trim() || undefined;
  }

  /** One of the choices; null when the variable is not set, or after an error. */
  choice<T extends string>(name: string, choices: readonly T[]): T | null {
    const text = this.text(name);
    if (text === undefined) return null;
    const found = choices.find((choice) => choice === text);
    if (found === undefined) this.errors.push(`${name} must be ${choices.join(' or ')}`);
    return found ?? null;
  }

  /** A whole number from `min` to `max`; the fallback after an error, too. */
  whole(name: string, fallback: number, min: number, max: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    if (number >= min && number <= max) return number;
    this.errors.push(`${name} must be a whole number from ${min} to ${max}`);
    return fallback;
  }

  readFile(name: string): string | undefined {
    const path = this.text(name);
    if (path === undefined) return undefined;
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.errors.push(`${name} names a file that cannot be read (${code}): ${path}`);
      return undefined;
    }
  }

  /** @throws ConfigError with all errors, if there are any */
  throwErrors(): void {
    const unread = new RegExp(`^(${[...this.#unread].join('|')})\\b[ :]`);
    const errors = this.#unread.size === 0 ? this.errors
      : this.errors.filter((error) => !unread.test(error));
    if (errors.length === 0) return;
    throw new ConfigError(['the configuration is invalid:', ...errors].join('\n  '), { errors });
  }
}
