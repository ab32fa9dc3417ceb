/** Checks that no spelling, address or new code renews a limit. */
import { expect, NotRun } from './check.ts';
import type { Check } from './check.ts';
import { limitNumber } from './target.ts';
import type { Target } from './target.ts';

/** Enough to pass the default limit of 5 to one recipient. */
const SPELLINGS = 8;

/** Users whose codes are guessed at from one client IP; 3 guesses at each. */
const GUESSED_USERS = 24;
const GUESSES_PER_USER = 3;

export const LIMITS: readonly Check[] = [
  { name: 'guesses after a new code', run: checkNewCode },
  { name: 'spellings of one mailbox', run: checkSpellings },
  { name: 'networks of one client', run: checkNetwork },
  { name: 'guesses of one client IP', run: checkWrongCodes },
];

async function checkNewCode(target: Target): Promise<string> {
  const user = target.newUser();
  const clientIp = target.newClientIp();
  const left: unknown[] = [];
  for (let round = 0; round < 2; round += 1) {
    await target.issue(user, clientIp);
    const { status, body } = await target.verify({ user, clientIp, code: target.randomCode() });
    expect(status === 401, `a wrong code is answered ${status}`);
    left.push(body.attempts_remaining);
  }
  expect(Number(left[1]) === Number(left[0]) - 1,
    `attempts_remaining is ${left[0]}, and ${left[1]} after a new code`);
  return `attempts_remaining ${left.join(', ')}`;
}

async function checkSpellings(target: Target): Promise<string> {
  const [local, domain] = target.newUser().split('@');
  if (domain === undefined) throw new NotRun('--user is no e-mail address');
  if (target.options.apiKey === null) throw new NotRun('needs OTPD_API_KEY to name client IPs');
  let issued = 0;
  for (let index = 0; index < SPELLINGS; index += 1) {
    const user = index % 2 === 0 ? `${local}+${index}@${domain}`
      : `${local!.slice(0, index)}${local!.slice(index).toUpperCase()}@${domain.toUpperCase()}`;
    const { status } = await target.request({ user, clientIp: target.newClientIp() });
    if (status === 201) issued += 1;
    else expect(status === 429 || status === 400, `answered ${status}`);
  }
  expect(issued < SPELLINGS, `${issued} spellings of one mailbox got a code each`);
  return `${issued} of ${SPELLINGS} spellings issued`;
}

async function checkNetwork(target: Target): Promise<string> {
  if (target.options.apiKey === null) throw new NotRun('needs OTPD_API_KEY to name client IPs');
  const left: (number | null)[] = [];
  for (let round = 0; round < 2; round += 1) {
    const answer = await target.request({
      user: target.newUser(), clientIp: target.newClientIp(),
    });
    left.push(limitNumber(answer, 'ratelimit', 'net48'));
  }
  const [first, second] = left;
  expect(first !== null && first !== undefined, 'no limit holds for an IPv6 /48');
  expect(second === first - 1, `two /64 of one /48 have ${first} and ${second} left`);
  return `two /64 of one /48 share ${first} codes`;
}

async function checkWrongCodes(target: Target): Promise<string> {
  const { apiKey, messagesMax } = target.options;
  if (apiKey === null) throw new NotRun('needs OTPD_API_KEY to name client IPs');
  if (target.messages + GUESSED_USERS > messagesMax) {
    throw new NotRun(`needs --messages ${target.messages + GUESSED_USERS}`);
  }
  const clientIp = target.newClientIp();
  let compared = 0;
  for (let index = 0; index < GUESSED_USERS; index += 1) {
    const user = target.newUser();
    await target.issue(user, target.newClientIp());
    for (let guess = 0; guess < GUESSES_PER_USER; guess += 1) {
      const { body } = await target.verify({ user, clientIp, code: target.randomCode() });
      if (body.error === 'rate_limit_exceeded') return `${compared} guesses compared, then refused`;
      compared += 1;
    }
  }
  return expect(false, `${compared} guesses of one client IP were compared`) as never;
}
