/** The types of otp-code.js; a test compiles the code against them. */
import type { RequestOutcome, VerifyOutcome } from './index.js';

/** A form field for one-time codes. The attributes are documented in docs/client.md. */
export class OtpCode extends HTMLElement {
  static readonly formAssociated: boolean;
  /** The texts by language and name; add a language, or change a text, before the first use. */
  static words: Record<string, Record<string, string>>;
  /** The number of digits: the attribute `length`, 6 by default. */
  get length(): number;
  /** The digits. */
  get value(): string;
  set value(text: string);
  get form(): HTMLFormElement | null;
  /** Shows an outcome of the client; only `kind` and the times and numbers are read. */
  show(outcome: RequestOutcome | VerifyOutcome | { kind: string }): void;
}

declare global {
  interface HTMLElementTagNameMap {
    'otp-code': OtpCode;
  }
}
