/** Reading single variables, and collecting what is wrong with them. */
import { readFileSync } from 'node:fs';

/** A configuration that cannot be used; the message names everything that is wrong with it. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  /** What is wrong, each by itself, when it is the settings. */
  readonly errors: readonly string[];

  /** @param options the errors, or the error behind it */
  constructor(message: string, options: { errors?: readonly string[]; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.errors = options.errors ?? [];
  }
}

/** The highest port (RFC 9293, 3.1). */
export const PORT_MAX = 65_535;

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Reads variables and collects what is wrong with them. An empty variable counts as not set. */
export class EnvReader {
  readonly errors: string[] = [];
  readonly #environment: Environment;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** A variable as it is. */
  raw(name: string): string | undefined {
    return this.#environment[name];
  }

  /** A variable without the space around it. */
  text(name: string): string | undefined {
    return this.raw(name)?.trim() || undefined;
  }

  /** A whole number between two bounds. */
  whole(name: string, fallback: number, min: number, max: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    if (number >= min && number <= max) return number;
    this.errors.push(`${name} must be a whole number from ${min} to ${max}`);
    return fallback;
  }

  /** The text of the file that a variable names. */
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

  /** @throws ConfigError naming every fault at once, if there is one */
  throwErrors(): void {
    const { errors } = this;
    if (errors.length === 0) return;
    throw new ConfigError(['the configuration is at fault:', ...errors].join('\n  '), { errors });
  }
}
