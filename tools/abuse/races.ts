/** Checks that simultaneous requests have one winner. */
import { randomUUID } from 'node:crypto';
import { expect, NotRun } from './check.ts';
import type { Check } from './check.ts';
import { limitNumber, NEEDS_CODES, refusingLimits } from './target.ts';
import type { Answer, Target } from './target.ts';

/** More simultaneous requests than the default limit of a user. */
const AT_ONCE = 8;
const GUESSES_AT_ONCE = 12;

export type Exhausted = Readonly<{ user: string; clientIp: string; answers: readonly Answer[] }>;

const exhausted = new WeakMap<Target, Promise<Exhausted>>();

/** A user who has used up the limit, by simultaneous requests; one for each target. */
export function exhaustUser(target: Target): Promise<Exhausted> {
  const known = exhausted.get(target);
  if (known !== undefined) return known;
  const made = sendTooMany(target);
  exhausted.set(target, made);
  return made;
}

async function sendTooMany(target: Target): Promise<Exhausted> {
  const user = target.newUser();
  const clientIp = target.newClientIp();
  const answers = await Promise.all(
    Array.from({ length: AT_ONCE }, () => target.request({ user, clientIp })));
  return { user, clientIp, answers };
}

export const RACES: readonly Check[] = [
  { name: 'simultaneous requests of one user', run: checkUserLimit },
  { name: 'simultaneous requests with one key', run: checkKey },
  { name: 'simultaneous guesses', run: checkGuesses },
  { name: 'simultaneous right codes', run: checkRightCodes },
];

async function checkUserLimit(target: Target): Promise<string> {
  const { answers } = await exhaustUser(target);
  const quota = limitNumber(answers[0]!, 'ratelimit-policy', 'user');
  expect(quota !== null, 'RateLimit-Policy does not name the limit of the user');
  if (quota >= AT_ONCE) throw new NotRun(`the limit of the user is ${quota}`);
  const issued = answers.filter(({ status }) => status === 201);
  expect(issued.length <= quota,
    `${issued.length} of ${AT_ONCE} were answered 201, the limit is ${quota}`);
  const refused = answers.filter(({ status }) => status === 429);
  expect(refused.length + issued.length === AT_ONCE,
    `answers ${answers.map(({ status }) => status).join(' ')}`);
  for (const answer of refused) expectSameWait(answer, 'remaining_cooldown_seconds');
  const others = refused.flatMap(refusingLimits).filter((name) => name !== 'user');
  if (issued.length < quota && others.length > 0) throw new NotRun(`refused by ${others[0]}`);
  expect(issued.length === quota,
    `${issued.length} of ${AT_ONCE} were answered 201, the limit is ${quota}`);
  return `${quota} of ${AT_ONCE} issued`;
}

export function expectSameWait({ headers, body, text }: Answer, member: string): void {
  expect(headers['retry-after'] === String(body[member]),
    `Retry-After is ${headers['retry-after']} in ${text}`);
}

async function checkKey(target: Target): Promise<string> {
  const user = target.newUser();
  const clientIp = target.newClientIp();
  const key = randomUUID();
  const answers = await Promise.all(
    Array.from({ length: AT_ONCE }, () => target.request({ user, clientIp, key })));
  const decided = answers.filter(({ status }) => status !== 409);
  if (decided.every(({ status }) => status === 429)) throw new NotRun('a limit refused');
  const bodies = new Set(decided.map(({ status, text }) => `${status} ${text}`));
  expect(bodies.size === 1, `one key has ${bodies.size} different answers: ${[...bodies][0]}`);
  expect(decided[0]!.status === 201, `answered ${[...bodies][0]}`);
  const first = decided.filter(({ headers }) => headers['idempotent-replayed'] === undefined);
  expect(first.length === 1, `${first.length} answers are no replay`);
  const other = await target.request({ user: target.newUser(), clientIp, key });
  expect(other.status === 422, `the key of another user is answered ${other.status}`);
  return `1 issued, ${decided.length - 1} replayed`;
}

async function checkGuesses(target: Target): Promise<string> {
  const user = target.newUser();
  const clientIp = target.newClientIp();
  await target.issue(user, clientIp);
  const answers = await Promise.all(Array.from({ length: GUESSES_AT_ONCE }, () =>
    target.verify({ user, clientIp, code: target.randomCode() })));
  const wrong = answers.filter(({ status }) => status === 401);
  const left = new Set(wrong.map(({ body }) => body.attempts_remaining));
  expect(left.size === wrong.length,
    `${wrong.length} guesses were compared, with ${left.size} different attempts_remaining`);
  const locked = answers.filter(({ status }) => status === 429);
  expect(locked.length + wrong.length === GUESSES_AT_ONCE && locked.length > 0,
    `answers ${answers.map(({ status }) => status).join(' ')}`);
  for (const answer of locked) {
    if (answer.body.error === 'too_many_attempts') expectSameWait(answer, 'retry_after_seconds');
  }
  const request = await target.request({ user, clientIp: target.newClientIp() });
  expect(request.status === 429 || request.status === 403,
    `a locked pair gets a new code: ${request.status}`);
  return `${wrong.length + 1} of ${GUESSES_AT_ONCE} compared, then locked`;
}

/** Also checks that the key of the winner is no way to try codes. */
async function checkRightCodes(target: Target): Promise<string> {
  if (target.options.readCode === null) throw new NotRun(NEEDS_CODES);
  const user = target.newUser();
  const clientIp = target.newClientIp();
  await target.issue(user, clientIp);
  const code = await target.readCode(user);
  const keys = Array.from({ length: AT_ONCE }, () => randomUUID());
  const answers = await Promise.all(keys.map((key) =>
    target.verify({ user, clientIp, code, key })));
  const winners = keys.filter((_key, index) => answers[index]!.status === 200);
  expect(winners.length === 1, `${winners.length} of ${AT_ONCE} were answered 200`);
  expect(answers.filter(({ status }) => status === 410).length === AT_ONCE - 1,
    `answers ${answers.map(({ status }) => status).join(' ')}`);
  const [key] = winners;
  const repeat = await target.verify({ user, clientIp, code, key: key! });
  expect(repeat.status === 200, `a repeat with its key is answered ${repeat.status}`);
  const other = code.replace(/.$/, (digit) => String((Number(digit) + 1) % 10));
  const guess = await target.verify({ user, clientIp, code: other, key: key! });
  expect(guess.status === 422, `another code with the key is answered ${guess.status}`);
  const after = await target.verify({ user, clientIp, code, key: key! });
  expect(after.status !== 200, 'the key reveals the right code after another code was tried');
  return `1 of ${AT_ONCE} redeemed; its key replays and reveals no code`;
}
