/**
 * `<otp-code>`: a form field for one-time codes (docs/client.md). It has one input, puts the
 * outcomes of a client of otpd into words, and counts down to the end of the code and to the next.
 *
 * @import { RequestOutcome, VerifyOutcome } from './index.js'
 */

/**
 * The names of the texts below, in their order. {t} is a time, {n} a number; `bad` states are about
 * what was typed.
 */
const NAMES = ['label', 'incomplete', 'resend', 'wait', 'valid', 'sent', 'verified', 'invalid_code',
  'last_attempt', 'code_used', 'code_expired', 'code_superseded', 'too_many_attempts',
  'rate_limit_exceeded', 'account_locked', 'unavailable', 'failed'];

const WORDS = Object.fromEntries(Object.entries({
  en: `Code from the message|Enter all {n} digits.|Send a new code|New code in {t}|Valid for {t}
|A code is on its way.|Confirmed.|Wrong code. {n} attempts left.|Wrong code. One attempt left.
|This code has been used. Request a new one.|This code has expired. Request a new one.
|A newer code was sent. Enter the latest one.|Too many wrong codes. Please wait.
|Too many requests. Please wait.|This account is locked. Please contact support.
|No connection. Please try again.|Something went wrong. Please try again later.`,
  de: `Code aus der Nachricht|Alle {n} Ziffern eingeben.|Neuen Code senden|Neuer Code in {t}
|Gültig: {t}|Ein Code ist unterwegs.|Bestätigt.|Falscher Code. Noch {n} Versuche.
|Falscher Code. Noch ein Versuch.|Dieser Code wurde schon benutzt. Bitte neuen Code anfordern.
|Dieser Code ist abgelaufen. Bitte neuen Code anfordern.
|Es gibt einen neueren Code. Bitte den letzten eingeben.|Zu viele falsche Codes. Bitte warten.
|Zu viele Anfragen. Bitte warten.|Dieses Konto ist gesperrt. Bitte den Support kontaktieren.
|Keine Verbindung. Bitte erneut versuchen.|Etwas ging schief. Bitte später erneut versuchen.`,
  fr: `Code reçu par message|Saisissez les {n} chiffres.|Envoyer un nouveau code
|Nouveau code dans {t}|Valable {t}|Un code est en route.|Confirmé.
|Code incorrect. Encore {n} essais.|Code incorrect. Encore un essai.
|Ce code a déjà servi. Demandez-en un nouveau.|Ce code a expiré. Demandez-en un nouveau.
|Un code plus récent a été envoyé. Saisissez le dernier.|Trop de codes incorrects. Patientez.
|Trop de demandes. Patientez.|Ce compte est bloqué. Contactez l’assistance.
|Pas de connexion. Réessayez.|Une erreur s’est produite. Réessayez plus tard.`,
  es: `Código del mensaje|Introduzca los {n} dígitos.|Enviar un código nuevo|Código nuevo en {t}
|Válido: {t}|El código está en camino.|Confirmado.|Código incorrecto. Quedan {n} intentos.
|Código incorrecto. Queda un intento.|Este código ya se ha usado. Solicite uno nuevo.
|Este código ha caducado. Solicite uno nuevo.
|Se envió un código más reciente. Introduzca el último.|Demasiados códigos incorrectos. Espere.
|Demasiadas solicitudes. Espere.|Esta cuenta está bloqueada. Contacte con soporte.
|Sin conexión. Inténtelo de nuevo.|Algo salió mal. Inténtelo más tarde.`,
}).map(([language, texts]) => [language, Object.fromEntries(
  texts.split('|').map((text, index) => [NAMES[index], text.trim()]))]));

/** Another code must be typed before the form can be sent again. */
const BAD = ['invalid_code', 'code_used', 'code_expired', 'code_superseded'];

const SHEET = new CSSStyleSheet();
SHEET.replaceSync(`
:host{display:block;max-width:20rem}
:host([hidden]){display:none}
*{box-sizing:border-box;font:inherit;margin:0}
label,input{display:block}
input{width:100%;min-height:3rem;margin:.375rem 0;padding:0 .75rem;border:1px solid GrayText;
border-color:light-dark(#6b6b6b,#9a9a9a);border-radius:.5rem;background:Field;color:FieldText;
font-size:1.5rem;font-variant-numeric:tabular-nums;letter-spacing:.3em}
:focus-visible{outline:3px solid Highlight;outline-color:light-dark(#0b57d0,#a8c7fa);
outline-offset:2px}
p{min-height:1.5em}
[aria-invalid=true]{border-width:2px;border-color:light-dark(#b3261e,#ff8a80)}
[aria-invalid=true]~p{color:#b3261e;color:light-dark(#b3261e,#ff8a80)}
button{min-height:2.75rem;padding:0 .5rem 0 0;border:0;background:none;color:inherit;
text-decoration:underline;cursor:pointer}
button[aria-disabled=true]{text-decoration:none;cursor:default}
span{float:right;line-height:2.75rem;font-variant-numeric:tabular-nums}
@media(prefers-reduced-motion:no-preference){[aria-invalid=true]{animation:x .25s}}
@keyframes x{25%{transform:translateX(-4px)}75%{transform:translateX(4px)}}`);

/** The digits of a text, in ASCII. Every script has its ten digits in a row, zero first. */
function digitsOf(/** @type {string} */ text) {
  return (text.match(/\p{Nd}/gu) ?? []).map((digit) => {
    const point = /** @type {number} */ (digit.codePointAt(0));
    let first = point;
    while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first -= 1;
    return (point - first) % 10;
  }).join('');
}

/** @template {keyof HTMLElementTagNameMap} Tag @param {Tag} tag @param {object} members */
function make(tag, members) {
  return Object.assign(document.createElement(tag), members);
}

export class OtpCode extends HTMLElement {
  static formAssociated = true;
  static words = WORDS;

  #internals = this.attachInternals();
  #label = make('label', { htmlFor: 'i' });
  #input = make('input', { id: 'i', autocomplete: 'one-time-code', inputMode: 'numeric',
    dir: 'ltr', enterKeyHint: 'done', spellcheck: false });
  #message = make('p', { id: 'm', role: 'status' });
  #resend = make('button', { type: 'button' });
  #left = make('span', { id: 'l' });
  #parts = [this.#label, this.#input, this.#message, this.#left, this.#resend];
  /** The name of the text in the message, and its number. */
  #state = '';
  #number = 0;
  #endsAt = 0;
  #nextAt = 0;
  #timer = 0;
  /** Ends what lasts while the element is in a document. */
  #gone = new AbortController();

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open', delegatesFocus: true });
    root.adoptedStyleSheets = [SHEET];
    const input = this.#input;
    input.setAttribute('aria-describedby', 'm l');
    root.append(...this.#parts);
    input.addEventListener('input', (event) => {
      if (!(/** @type {InputEvent} */ (event).isComposing)) this.#typed();
    });
    input.addEventListener('compositionend', () => this.#typed());
    input.addEventListener('paste', (event) => {
      const digits = digitsOf(event.clipboardData?.getData('text') ?? '');
      if (digits.length < this.length) return;
      event.preventDefault();
      this.#fill(digits);
    });
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.#internals.form?.requestSubmit();
    });
    this.#resend.addEventListener('click', () => {
      if (this.#isResendable()) this.#tell('otp-resend');
    });
  }

  connectedCallback() {
    this.#gone = new AbortController();
    const { signal } = this.#gone;
    addEventListener('offline', () => this.show({ kind: 'unavailable' }), { signal });
    addEventListener('online', () => {
      if (this.#state === 'unavailable') this.#enter('');
    }, { signal });
    if ('OTPCredential' in globalThis) this.#listen(signal);
    this.#enter(navigator.onLine ? this.#state : 'unavailable');
  }

  disconnectedCallback() {
    this.#gone.abort();
    clearTimeout(this.#timer);
  }

  formResetCallback() {
    this.value = '';
  }

  formDisabledCallback(/** @type {boolean} */ isDisabled) {
    this.#input.disabled = isDisabled;
  }

  get length() {
    return Number(this.getAttribute('length')) || 6;
  }

  get value() {
    return this.#input.value;
  }

  set value(text) {
    this.#input.value = digitsOf(text).slice(0, this.length);
    this.#judge();
  }

  get form() {
    return this.#internals.form;
  }

  /** @param {RequestOutcome | VerifyOutcome | { kind: string }} outcome */
  show(outcome) {
    const { kind, ttl, nextCodeInSeconds, retryAfterSeconds, attemptsRemaining: left } =
      /** @type {Record<string, any>} */ (outcome);
    const now = Date.now();
    if (kind === 'sent') {
      this.value = '';
      this.#endsAt = now + ttl * 1000;
      this.#nextAt = now + (nextCodeInSeconds ?? 0) * 1000;
    } else if (kind === 'account_locked') this.#nextAt = Infinity;
    else if (/^(too|rate)_/.test(kind)) this.#nextAt = now + retryAfterSeconds * 1000;
    if (/^(verified|too|account|code_[eu])/.test(kind)) this.#endsAt = 0;
    this.#number = left;
    this.#enter(left === 1 ? 'last_attempt' : kind === 'otp_not_found' ? 'code_expired'
      : NAMES.indexOf(kind) > 4 ? kind : 'failed');
    if (this.#isBad()) {
      this.#input.focus();
      this.#input.select();
    }
  }

  #isBad() {
    return BAD.includes(this.#state) || this.#state === 'last_attempt';
  }

  #isResendable() {
    return this.#nextAt <= Date.now() && this.#state !== 'verified';
  }

  /** @param {string} state */
  #enter(state) {
    this.#state = state;
    const language = this.#language();
    for (const part of this.#parts) part.lang = language;
    this.#label.textContent = this.getAttribute('label') ?? this.#say('label');
    this.#message.textContent = state && this.#say(state, this.#number);
    this.#input.ariaInvalid = String(this.#isBad());
    this.#judge();
    this.#tick();
  }

  /** Shows the times, once a second while one runs. */
  #tick() {
    clearTimeout(this.#timer);
    const now = Date.now();
    if (this.#endsAt && this.#endsAt <= now) {
      // Unlike an answer, this does not follow an action of the user: the focus stays where it is.
      this.#endsAt = 0;
      return this.#enter('code_expired');
    }
    this.#left.textContent = this.#endsAt ? this.#say('valid', this.#endsAt - now) : '';
    const waitMs = this.#nextAt - now;
    const isWaiting = waitMs > 0 && waitMs < Infinity;
    this.#resend.textContent = this.#say(isWaiting ? 'wait' : 'resend', waitMs);
    this.#resend.ariaDisabled = String(!this.#isResendable());
    if (this.isConnected && (this.#endsAt || isWaiting)) {
      this.#timer = setTimeout(() => this.#tick(), 1000);
    }
  }

  #language() {
    const tag = /** @type {HTMLElement | null} */ (this.closest('[lang]'))?.lang;
    const [language = ''] = (tag || navigator.language).split('-');
    return language in WORDS ? language : 'en';
  }

  /** @param {string} name @param {number} [number] a count, or milliseconds for {t} */
  #say(name, number = this.length) {
    const seconds = Math.ceil(number / 1000);
    const text = WORDS[this.#language()]?.[name] ?? WORDS.en?.[name] ?? '';
    return text.replace('{n}', String(number))
      .replace('{t}', `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`);
  }

  /** Tells the form the value, and whether it can be sent. */
  #judge() {
    const { value } = this;
    this.#internals.setFormValue(value);
    const isShort = value.length < this.length && (value !== '' || this.hasAttribute('required'));
    if (isShort) this.#invalid({ tooShort: true }, this.#say('incomplete'));
    else if (this.#isBad()) this.#invalid({ customError: true }, this.#message.textContent);
    else this.#internals.setValidity({});
  }

  /** @param {ValidityStateFlags} flags @param {string | null} text */
  #invalid(flags, text) {
    this.#internals.setValidity(flags, text || ' ', this.#input);
  }

  #typed() {
    const { value, selectionStart } = this.#input;
    const digits = digitsOf(value).slice(0, this.length);
    if (digits !== value) {
      const caret = digitsOf(value.slice(0, selectionStart ?? value.length)).length;
      this.#input.value = digits;
      this.#input.setSelectionRange(caret, caret);
    }
    if (this.#isBad()) this.#enter('');
    this.#judge();
    if (digits.length === this.length) this.#tell('otp-complete');
  }

  /** @param {string} text */
  #fill(text) {
    this.#input.value = text;
    this.#typed();
  }

  /** @param {string} name */
  #tell(name) {
    this.dispatchEvent(new Event(name, { bubbles: true, composed: true }));
  }

  /** Asks the browser for the code of an SMS (WebOTP). @param {AbortSignal} signal */
  #listen(signal) {
    const otp = { transport: ['sms'] };
    const options = /** @type {CredentialRequestOptions} */ ({ otp, signal });
    navigator.credentials.get(options).then((credential) => {
      this.#fill(/** @type {{ code: string } | null} */ (/** @type {unknown} */ (credential))?.code
        ?? '');
    }, () => {});
  }
}

if (!customElements.get('otp-code')) customElements.define('otp-code', OtpCode);
