/**
 * A second implementation of docs/api.md for the property test: in memory, without concurrency and
 * without code of src/otp. Times are whole microseconds.
 */

const SECOND = 1_000_000;
const WINDOW = 900 * SECOND;
const HOUR = 3600 * SECOND;
const DAY = 86_400 * SECOND;
const REPLAY = 300 * SECOND;
const TOKENS_MAX = 8;

/** The policy: seconds and counts. */
export type Numbers = Readonly<{
  lifetime: number;
  userLimit: number;
  addressLimit: number;
  netLimit: number;
  recipientLimit: number;
  wrongAttempts: number;
  lock: number;
  cap: number;
  wrongCodes: number;
  wrongCodesNet: number;
  /** Null: no device is trusted, and nothing is kept for devices. */
  deviceDays: number | null;
  /** The purposes that trust devices. */
  trusting: string;
  devicesLimit: number;
  reserve: number;
}>;

/** What limits count of a client, and the tokens that it sends. */
export type Client = Readonly<{ ip: string; net: string; tokens: readonly string[] }>;

/** What a request counts for besides its user; the recipient is null for its normal form. */
export type Subjects = Client & Readonly<{ recipient: string | null }>;

/** The expected response. `unsettled` names a case that docs/api.md leaves open. */
export type Expected = {
  status: number;
  /** Members of the body; the `otp_id` of a first 201 is unknown, hence null. */
  body: Record<string, unknown>;
  retryAfter?: number;
  replayed?: boolean;
  limits?: string;
  /** That of Otp-Device, or what a new one says; the device is '' for a new one. */
  token?: string | Token | undefined;
  unsettled?: 'removed' | 'closed code';
};

/** `issuedAt` is a whole second. */
export type Token = Readonly<{ user: string; device: string; issuedAt: number }>;

/** What an idempotency key of a request is used for. */
export type Use = Readonly<{ user: string; purpose: string; to: string | null;
  channel: string | null; locale: string | null }>;

type Code = { id: string; code: string; issuedAt: number; used: boolean; closed: boolean };
/** A user and a purpose, on a device or, with '', for the untrusted clients. */
type Pair = {
  user: string;
  purpose: string;
  device: string;
  /** The newest code. */
  code: Code;
  /** Those before it that are still known. */
  earlier: Code[];
  wrong: number;
  lastWrong: number;
  lockedUntil: number;
  consecutive: number;
};
type Limit = { name: string; subject: string; limit: number };
type Answer = { use: string; body: Record<string, unknown>; until: number; token?: string };

/** The state of all pairs, limits and keys. */
export class Model {
  now: number;
  readonly #n: Numbers;
  readonly #pairs = new Map<string, Pair>();
  /** Accounts that are locked for everybody, or for untrusted clients only. */
  readonly #locks = new Map<string, 'all' | 'untrusted'>();
  readonly #tokens = new Map<string, Token>();
  /** When devices, or with '' all devices of a user, were revoked. */
  readonly #revoked = new Map<string, number>();
  readonly #points = new Map<string, number[]>();
  readonly #answers = new Map<string, Answer>();
  readonly #boundaryInstants: number[] = [];

  constructor(now: number, numbers: Numbers) {
    this.now = now;
    this.#n = numbers;
  }

  /** Future instants at which something ends, in order. */
  boundaries(): number[] {
    return [...new Set(this.#boundaryInstants)].filter((at) => at > this.now).sort((a, b) => a - b);
  }

  /** The device that the tokens of a client prove; '' for an untrusted client. */
  deviceOf(user: string, purpose: string, tokens: readonly string[]): string {
    const { deviceDays, trusting } = this.#n;
    if (deviceDays === null || !trusting.includes(purpose)) return '';
    for (const text of tokens.slice(0, TOKENS_MAX)) {
      const token = this.#tokens.get(text);
      if (token === undefined || token.user !== user) continue;
      if (this.now >= token.issuedAt + deviceDays * DAY || this.#isRevoked(text)) continue;
      return token.device;
    }
    return '';
  }

  /** Every genuine token, the newest last. */
  get tokens(): readonly string[] {
    return [...this.#tokens.keys()];
  }

  #isRevoked(text: string): boolean {
    const { user, device } = this.#tokens.get(text)!;
    return this.#revoked.has(`${user} ${device}`) || this.#revoked.has(text);
  }

  /** An operator revokes a device, or all those whose tokens the user has now. */
  revoke(user: string, device: string | null): void {
    if (device !== null) this.#revoked.set(`${user} ${device}`, this.now);
    else {
      for (const [text, token] of this.#tokens) {
        if (token.user === user) this.#revoked.set(text, this.now);
      }
    }
  }

  /** Adds the token of a success: the text that a repeat with the key gets again. */
  trust(text: string, token: Token, key: string | null): void {
    this.#tokens.set(text, token);
    this.#boundaryInstants.push(token.issuedAt + (this.#n.deviceDays ?? 0) * DAY);
    const answer = key === null ? undefined : this.#answers.get(`verify ${key}`);
    if (answer !== undefined) answer.token = text;
  }

  #pair(user: string, purpose: string, device: string): Pair | undefined {
    return this.#pairs.get(`${user} ${purpose} ${device}`);
  }

  /** The newest code of a pair, if one is known. */
  newest(user: string, purpose: string, device: string): string | null {
    return this.#pair(user, purpose, device)?.code.code ?? null;
  }

  /** POST /otp/request. After a 201, `issued` passes the code and the body to the model. */
  request(use: Use, subjects: Subjects, key: string): Expected {
    const { user, purpose } = use;
    const device = this.deviceOf(user, purpose, subjects.tokens);
    const limits = this.#limitsOf(user, device, subjects);
    const stored = this.#known(`request ${key}`);
    if (stored !== null) {
      if (stored.use !== JSON.stringify(use)) {
        return this.#limited(limits, 422, { error: 'idempotency_key_reused' });
      }
      return { ...this.#limited(limits, 201, stored.body), replayed: true };
    }
    if (this.#isLocked(user, device)) {
      return this.#limited(limits, 403, { error: 'account_locked' });
    }
    const pair = this.#pair(user, purpose, device);
    const retryAfter = pair === undefined ? null : this.#lockOf(pair);
    if (retryAfter !== null) {
      const body = { error: 'too_many_attempts', retry_after_seconds: retryAfter };
      return { ...this.#limited(limits, 429, body), retryAfter };
    }
    const wait = Math.max(...limits.map(({ subject, limit }) => this.#wait(subject, limit)));
    if (wait > 0) {
      const body = { error: 'rate_limit_exceeded', remaining_cooldown_seconds: wait };
      return { ...this.#limited(limits, 429, body), retryAfter: wait };
    }
    for (const { subject } of limits) this.#use(subject);
    const [own] = limits;
    const remaining = own!.limit - this.#live(own!.subject).length;
    return this.#limited(limits, 201,
      { otp_id: null, ttl: this.#n.lifetime, remaining_requests: remaining });
  }

  /** Adds the code and the body of a first 201. */
  issued(
    use: Use,
    tokens: readonly string[],
    key: string,
    code: string,
    body: Record<string, unknown>,
  ): void {
    const { user, purpose } = use;
    const device = this.deviceOf(user, purpose, tokens);
    const old = this.#pair(user, purpose, device);
    const fresh: Code = { id: String(body.otp_id), code, issuedAt: this.now, used: false,
      closed: false };
    const counts = old ?? { wrong: 0, lastWrong: 0, lockedUntil: 0, consecutive: 0, earlier: [] };
    const earlier = old === undefined ? [] : [...old.earlier, old.code];
    this.#pairs.set(`${user} ${purpose} ${device}`,
      { user, purpose, device, ...counts, earlier, code: fresh });
    for (const pair of this.#pairsOf(user)) {
      pair.earlier = pair.earlier.filter(({ issuedAt }) => this.now < issuedAt + WINDOW);
    }
    this.#boundaryInstants.push(this.now + this.#n.lifetime * SECOND);
    this.#answer(`request ${key}`, { use: JSON.stringify(use), body, until: this.now + DAY });
  }

  verify(
    user: string,
    purpose: string,
    code: string,
    key: string | null,
    client: Client,
    otpId: string | null = null,
  ): Expected {
    const use = `${user} ${purpose} ${code}`;
    const stored = key === null ? null : this.#known(`verify ${key}`);
    if (stored !== null && stored.use === use) {
      return { status: 200, body: stored.body, replayed: true, token: stored.token };
    }
    if (stored !== null) {
      this.#answers.delete(`verify ${key}`);
      this.#countWrong(client);
      return { status: 422, body: { error: 'idempotency_key_reused' } };
    }
    const device = this.deviceOf(user, purpose, client.tokens);
    const pair = this.#pair(user, purpose, device);
    const isSpared = device !== '' || (otpId !== null && this.#isOpen(pair, otpId));
    const wait = isSpared ? 0 : this.#waitForWrong(client);
    if (wait > 0) {
      const body = { error: 'rate_limit_exceeded', remaining_cooldown_seconds: wait };
      return { status: 429, body, retryAfter: wait };
    }
    if (this.#isLocked(user, device)) return { status: 403, body: { error: 'account_locked' } };
    if (pair === undefined) return { status: 404, body: { error: 'otp_not_found' } };
    const retryAfter = this.#lockOf(pair);
    if (retryAfter !== null) return this.#tooMany(retryAfter);
    const refusal = otpId === null || otpId === pair.code.id ? this.#refusalOf(pair)
      : this.#refusalOfEarlier(pair, otpId);
    if (refusal !== null) return refusal;
    if (code !== pair.code.code) {
      const mayBeEarlier = ({ used, closed, issuedAt, code: sent }: Code): boolean => sent === code
        && !used && !closed && this.now < issuedAt + this.#n.lifetime * SECOND;
      if (otpId !== null && pair.earlier.some(mayBeEarlier)) {
        return { status: 410, body: { error: 'code_superseded' } };
      }
      this.#countWrong(client);
      return this.#wrong(pair);
    }
    pair.code.used = true;
    pair.wrong = 0;
    pair.consecutive = 0;
    const body = { success: true, message: 'verification_successful' };
    if (key !== null) {
      this.#answer(`verify ${key}`, { use, body, until: this.now + REPLAY });
    }
    if (this.#n.deviceDays === null || !this.#n.trusting.includes(purpose)) {
      return { status: 200, body };
    }
    const issuedAt = Math.floor(this.now / SECOND) * SECOND;
    return { status: 200, body, token: { user, device, issuedAt } };
  }

  /** An operator unlocks a user, or one purpose of the user. */
  unlock(user: string, purpose: string | null): void {
    const pairs = this.#pairsOf(user, purpose ?? undefined);
    if (pairs.length === 0) return;
    const wasLocked = this.#isLocked(user, '');
    for (const pair of pairs) Object.assign(pair, { wrong: 0, lockedUntil: 0, consecutive: 0 });
    this.#locks.delete(user);
    if (wasLocked) this.#lock(user);
  }

  #isLocked(user: string, device: string): boolean {
    const lock = this.#locks.get(user);
    return lock === 'all' || (lock === 'untrusted' && device === '')
      || this.#wrongOf(user) >= this.#capOf(device);
  }

  /** Locks an account until an operator unlocks it, as the wrong attempts demand. */
  #lock(user: string): void {
    const wrong = this.#wrongOf(user);
    if (wrong >= this.#n.cap) this.#locks.set(user, 'all');
    else if (wrong >= this.#capOf('')) this.#locks.set(user, 'untrusted');
  }

  #capOf(device: string): number {
    const { cap, reserve, deviceDays } = this.#n;
    return device === '' && deviceDays !== null ? cap - reserve : cap;
  }

  #pairsOf(user: string, purpose?: string): Pair[] {
    return [...this.#pairs.values()].filter((pair) =>
      pair.user === user && (purpose ?? pair.purpose) === pair.purpose);
  }

  #wrongOf(user: string): number {
    return this.#pairsOf(user).reduce((sum, { consecutive }) => sum + consecutive, 0);
  }

  #isOpen(pair: Pair | undefined, otpId: string): boolean {
    return pair?.code.id === otpId && !pair.code.used && !pair.code.closed
      && this.now < pair.code.issuedAt + this.#n.lifetime * SECOND;
  }

  #refusalOfEarlier({ code, earlier }: Pair, otpId: string): Expected {
    const isRemovable = this.now >= code.issuedAt + this.#n.lifetime * SECOND + DAY;
    const open = isRemovable ? { unsettled: 'removed' as const } : {};
    const named = earlier.find(({ id }) => id === otpId);
    if (named?.used) return { status: 410, body: { error: 'code_used' }, ...open };
    if (named === undefined || this.now >= named.issuedAt + WINDOW) {
      return { status: 404, body: { error: 'otp_not_found' } };
    }
    return { status: 410, body: { error: 'code_superseded' }, ...open };
  }

  #refusalOf({ code }: Pair): Expected | null {
    const expiresAt = code.issuedAt + this.#n.lifetime * SECOND;
    const isRemovable = this.now >= expiresAt + DAY;
    const open = isRemovable ? { unsettled: 'removed' as const } : {};
    if (code.used) return { status: 410, body: { error: 'code_used' }, ...open };
    if (this.now >= expiresAt) return { status: 410, body: { error: 'code_expired' }, ...open };
    if (!code.closed) return null;
    return { status: 410, body: { error: 'code_expired' }, unsettled: 'closed code' };
  }

  #waitForWrong({ ip, net }: Client): number {
    return Math.max(this.#wait(`wrong ${ip}`, this.#n.wrongCodes, HOUR),
      this.#wait(`wrong ${net}`, this.#n.wrongCodesNet, HOUR));
  }

  #countWrong({ ip, net }: Client): void {
    this.#use(`wrong ${ip}`, HOUR);
    this.#use(`wrong ${net}`, HOUR);
  }

  #wrong(pair: Pair): Expected {
    const { user, device } = pair;
    const isQuiet = this.now >= pair.lastWrong + this.#n.lock * SECOND;
    pair.wrong = isQuiet || pair.lockedUntil > 0 && this.now >= pair.lockedUntil
      && pair.lastWrong < pair.lockedUntil ? 1 : pair.wrong + 1;
    pair.lastWrong = this.now;
    pair.consecutive += 1;
    this.#boundaryInstants.push(this.now + this.#n.lock * SECOND);
    const left = this.#capOf(device) - this.#wrongOf(user);
    if (pair.wrong < this.#n.wrongAttempts && left > 0) {
      const remaining = Math.min(this.#n.wrongAttempts - pair.wrong, left);
      return { status: 401, body: { error: 'invalid_code', attempts_remaining: remaining } };
    }
    pair.code.closed = true;
    if (pair.wrong >= this.#n.wrongAttempts) pair.lockedUntil = this.now + this.#n.lock * SECOND;
    if (left > 0) return this.#tooMany(this.#n.lock);
    this.#lock(user);
    return { status: 403, body: { error: 'account_locked' } };
  }

  /** The seconds until the lock of a pair ends; null without one. */
  #lockOf({ lockedUntil }: Pair): number | null {
    return this.now >= lockedUntil ? null : Math.ceil((lockedUntil - this.now) / SECOND);
  }

  #tooMany(seconds: number): Expected {
    const body = { error: 'too_many_attempts', retry_after_seconds: seconds };
    return { status: 429, body, retryAfter: seconds };
  }

  /** That of the client comes first. */
  #limitsOf(user: string, device: string, { ip, net, recipient }: Subjects): Limit[] {
    const { userLimit, devicesLimit, addressLimit, netLimit, recipientLimit } = this.#n;
    const kind = device === '' ? 'untrusted' : 'device';
    const limits = device === '' ? [{ name: 'user', subject: `user ${user}`, limit: userLimit }] : [
      { name: 'device', subject: `device ${user} ${device}`, limit: userLimit },
      { name: 'devices', subject: `devices ${user}`, limit: devicesLimit },
    ];
    limits.push({ name: 'ip', subject: `ip ${ip}`, limit: addressLimit },
      { name: 'net48', subject: `net48 ${net}`, limit: netLimit });
    if (recipient !== null) {
      const subject = `recipient ${kind} ${recipient}`;
      limits.push({ name: 'recipient', subject, limit: recipientLimit });
    }
    return limits;
  }

  #limited(
    limits: readonly Limit[],
    status: number,
    body: Expected['body'],
  ): Expected {
    const views = limits.map(({ name, subject, limit }) => {
      const live = this.#live(subject);
      const wait = live.length === 0 ? 900 : Math.ceil((live[0]! + WINDOW - this.now) / SECOND);
      return `"${name}";r=${Math.max(0, limit - live.length)};t=${wait}`;
    });
    return { status, body, limits: views.join(', ') };
  }

  #answer(key: string, answer: Answer): void {
    this.#answers.set(key, answer);
    this.#boundaryInstants.push(answer.until);
  }

  #known(key: string): Answer | null {
    const answer = this.#answers.get(key);
    return answer !== undefined && this.now < answer.until ? answer : null;
  }

  #live(subject: string, window = WINDOW): number[] {
    return (this.#points.get(subject) ?? []).filter((at) => this.now < at + window);
  }

  #wait(subject: string, limit: number, window = WINDOW): number {
    const live = this.#live(subject, window);
    if (live.length < limit) return 0;
    return Math.ceil((live[live.length - limit]! + window - this.now) / SECOND);
  }

  #use(subject: string, window = WINDOW): void {
    this.#points.set(subject, [...this.#live(subject, window), this.now]);
    this.#boundaryInstants.push(this.now + window);
  }
}
