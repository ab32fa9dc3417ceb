/**
 * A second implementation of docs/api.md for the property test: in memory, without concurrency and
 * without code of src/otp. Times are whole microseconds.
 */

const SECOND = 1_000_000;
const WINDOW = 900 * SECOND;
const HOUR = 3600 * SECOND;
const DAY = 86_400 * SECOND;
const REPLAY = 300 * SECOND;

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
}>;

/** What limits count of a client. */
export type Client = Readonly<{ ip: string; net: string }>;

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
  unsettled?: 'removed' | 'closed code';
};

type Code = { id: string; code: string; issuedAt: number; used: boolean; closed: boolean };
type Pair = {
  /** The newest code. */
  code: Code;
  /** Those before it that are still known. */
  earlier: Code[];
  wrong: number;
  lastWrong: number;
  lockedUntil: number;
  consecutive: number;
};
type Answer = { use: string; body: Record<string, unknown>; until: number };

/** The state of all pairs, limits and keys. */
export class Model {
  now: number;
  readonly #n: Numbers;
  readonly #pairs = new Map<string, Pair>();
  readonly #lockedUsers = new Set<string>();
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

  /** The newest code of a pair, if one is known. */
  newest(user: string, purpose: string): string | null {
    return this.#pairs.get(`${user} ${purpose}`)?.code.code ?? null;
  }

  /** POST /otp/request. After a 201, `issued` passes the code and the body to the model. */
  request(user: string, purpose: string, subjects: Subjects, key: string): Expected {
    const limits = this.#limitsOf(user, subjects);
    const stored = this.#known(`request ${key}`);
    if (stored !== null) {
      if (stored.use !== `${user} ${purpose}`) {
        return this.#limited(limits, 422, { error: 'idempotency_key_reused' });
      }
      return { ...this.#limited(limits, 201, stored.body), replayed: true };
    }
    if (this.#lockedUsers.has(user)) {
      return this.#limited(limits, 403, { error: 'account_locked' });
    }
    const pair = this.#pairs.get(`${user} ${purpose}`);
    const retryAfter = pair === undefined ? null : this.#lockOf(pair);
    if (retryAfter !== null) {
      const body = { error: 'too_many_attempts', retry_after_seconds: retryAfter };
      return { ...this.#limited(limits, 429, body), retryAfter };
    }
    const wait = Math.max(...limits.map(([name, subject, limit]) =>
      this.#wait(`${name} ${subject}`, limit)));
    if (wait > 0) {
      const body = { error: 'rate_limit_exceeded', remaining_cooldown_seconds: wait };
      return { ...this.#limited(limits, 429, body), retryAfter: wait };
    }
    for (const [name, subject] of limits) this.#use(`${name} ${subject}`);
    const remaining = this.#n.userLimit - this.#live(`user ${user}`).length;
    return this.#limited(limits, 201,
      { otp_id: null, ttl: this.#n.lifetime, remaining_requests: remaining });
  }

  /** Adds the code and the body of a first 201. */
  issued(user: string, purpose: string, key: string, code: string, body: Record<string, unknown>) {
    const old = this.#pairs.get(`${user} ${purpose}`);
    const fresh: Code = { id: String(body.otp_id), code, issuedAt: this.now, used: false,
      closed: false };
    const counts = old ?? { wrong: 0, lastWrong: 0, lockedUntil: 0, consecutive: 0, earlier: [] };
    const earlier = old === undefined ? [] : [...old.earlier, old.code];
    this.#pairs.set(`${user} ${purpose}`, { ...counts, earlier, code: fresh });
    for (const pair of this.#pairsOf(user)) {
      pair.earlier = pair.earlier.filter(({ issuedAt }) => this.now < issuedAt + WINDOW);
    }
    this.#boundaryInstants.push(this.now + this.#n.lifetime * SECOND);
    this.#answer(`request ${key}`, { use: `${user} ${purpose}`, body, until: this.now + DAY });
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
      return { status: 200, body: stored.body, replayed: true };
    }
    if (stored !== null) {
      this.#answers.delete(`verify ${key}`);
      this.#countWrong(client);
      return { status: 422, body: { error: 'idempotency_key_reused' } };
    }
    const pair = this.#pairs.get(`${user} ${purpose}`);
    const wait = otpId !== null && this.#isOpen(pair, otpId) ? 0 : this.#waitForWrong(client);
    if (wait > 0) {
      const body = { error: 'rate_limit_exceeded', remaining_cooldown_seconds: wait };
      return { status: 429, body, retryAfter: wait };
    }
    if (this.#lockedUsers.has(user)) return { status: 403, body: { error: 'account_locked' } };
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
      return this.#wrong(user, pair);
    }
    pair.code.used = true;
    pair.wrong = 0;
    pair.consecutive = 0;
    const body = { success: true, message: 'verification_successful' };
    if (key !== null) {
      this.#answer(`verify ${key}`, { use, body, until: this.now + REPLAY });
    }
    return { status: 200, body };
  }

  /** An operator unlocks a user, or one purpose of the user. */
  unlock(user: string, purpose: string | null): void {
    const pairs = this.#pairsOf(user, purpose ?? undefined);
    for (const pair of pairs) Object.assign(pair, { wrong: 0, lockedUntil: 0, consecutive: 0 });
    if (pairs.length > 0 && this.#wrongOf(user) < this.#n.cap) this.#lockedUsers.delete(user);
  }

  #pairsOf(user: string, purpose = ''): Pair[] {
    return [...this.#pairs].filter(([name]) => purpose === '' ? name.startsWith(`${user} `)
      : name === `${user} ${purpose}`).map(([, pair]) => pair);
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

  #wrong(user: string, pair: Pair): Expected {
    const isQuiet = this.now >= pair.lastWrong + this.#n.lock * SECOND;
    pair.wrong = isQuiet || pair.lockedUntil > 0 && this.now >= pair.lockedUntil
      && pair.lastWrong < pair.lockedUntil ? 1 : pair.wrong + 1;
    pair.lastWrong = this.now;
    pair.consecutive += 1;
    this.#boundaryInstants.push(this.now + this.#n.lock * SECOND);
    const left = this.#n.cap - this.#wrongOf(user);
    if (pair.wrong < this.#n.wrongAttempts && left > 0) {
      const remaining = Math.min(this.#n.wrongAttempts - pair.wrong, left);
      return { status: 401, body: { error: 'invalid_code', attempts_remaining: remaining } };
    }
    pair.code.closed = true;
    if (pair.wrong >= this.#n.wrongAttempts) pair.lockedUntil = this.now + this.#n.lock * SECOND;
    if (left > 0) return this.#tooMany(this.#n.lock);
    this.#lockedUsers.add(user);
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

  #limitsOf(user: string, { ip, net, recipient }: Subjects): [string, string, number][] {
    const { userLimit, addressLimit, netLimit, recipientLimit } = this.#n;
    return [['user', user, userLimit], ['ip', ip, addressLimit], ['net48', net, netLimit],
      ...(recipient === null ? []
        : [['recipient', recipient, recipientLimit] as [string, string, number]])];
  }

  #limited(
    limits: readonly [string, string, number][],
    status: number,
    body: Expected['body'],
  ): Expected {
    const views = limits.map(([name, subject, limit]) => {
      const live = this.#live(`${name} ${subject}`);
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
