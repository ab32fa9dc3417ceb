/** Reads single environment variables and collects their errors. */
import { readFileSync } from 'node:fs';

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

/** An empty variable counts as not set. */
export class EnvReader {
  readonly errors: string[] = [];
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
    const { errors } = this;
    if (errors.length === 0) return;
    throw new ConfigError(['the configuration is invalid:', ...errors].join('\n  '), { errors });
  }
}
