/** What the limits of a policy allow an attacker in a day, as the tables of docs/security.md. */
import type { Policy } from '../../src/otp/policy/policy.ts';

const DAY_SECONDS = 86_400;
const HOUR_SECONDS = 3600;
const QUARTER_SECONDS = 900;
const DAYS_PER_YEAR = 365;

/** What a message costs in the table, in a currency of your choice. */
const MESSAGE_PRICE = 0.05;

type Row = readonly string[];

function tableOf(head: Row, rows: readonly Row[]): string {
  const line = (cells: Row) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function perDay(count: number, windowSeconds: number): number {
  return Math.floor((count * DAY_SECONDS) / windowSeconds);
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

/** The chance of at least one right guess. */
function chanceOf(guesses: number, { codeDigits }: Policy): number {
  return 1 - (1 - 10 ** -codeDigits) ** guesses;
}

function percent(chance: number): string {
  return `${Number((100 * chance).toPrecision(2))} %`;
}

/** Guesses in a day, the chance that one is right, and the accounts that this takes in a year. */
export function guessTable(policy: Policy): string {
  const { wrongAttempts, lockSeconds, wrongAttemptsUntilUnlock } = policy;
  const row = (who: string, bound: string, guesses: number): Row =>
    [who, bound, grouped(guesses), percent(chanceOf(guesses, policy)),
      String(Number((guesses * DAYS_PER_YEAR / 10 ** policy.codeDigits).toPrecision(2)))];
  const hour = (limit: number | null): number => perDay(limit ?? NaN, HOUR_SECONDS);
  return tableOf(['attack', 'bound', 'guesses a day', 'chance a day', 'accounts a year'], [
    ['one user in all purposes, until an operator unlocks the account',
      `${wrongAttemptsUntilUnlock} wrong codes in a row`, `${wrongAttemptsUntilUnlock} in all`,
      `${percent(chanceOf(wrongAttemptsUntilUnlock, policy))} in all`, '–'],
    row('one purpose that its user logs in for between the guesses',
      `${wrongAttempts} wrong codes in ${lockSeconds} s`, perDay(wrongAttempts, lockSeconds)),
    row('any users, from one IPv4 address or IPv6 /64',
      `${policy.wrongCodesLimit} wrong codes an hour`, hour(policy.wrongCodesLimit)),
    row('any users, from one IPv6 /48', `${policy.wrongCodesNetLimit} wrong codes an hour`,
      hour(policy.wrongCodesNetLimit)),
  ]);
}

/** Messages that an attacker can cause in a day. */
export function messageTable(policy: Policy): string {
  const row = (what: string, limit: number | null): Row => {
    const messages = perDay(limit ?? NaN, QUARTER_SECONDS);
    return [what, `${limit} in 900 s`, grouped(messages), (messages * MESSAGE_PRICE).toFixed(2)];
  };
  return tableOf(['messages', 'bound', 'a day', `cost at ${MESSAGE_PRICE} each`], [
    row('to one user', policy.userLimit),
    row('to one mailbox or phone under other spellings', policy.recipientLimit),
    row('from one IPv4 address or IPv6 /64', policy.addressLimit),
    row('from one IPv6 /48', policy.netLimit),
  ]);
}

function hoursAndMinutes(seconds: number): string {
  return `${Math.floor(seconds / HOUR_SECONDS)} h ${Math.floor(seconds % HOUR_SECONDS / 60)} min`;
}

/** How long locks of one purpose keep strangers from that many wrong codes. */
function fewestHours(wrongCodes: number, { wrongAttempts, lockSeconds }: Policy): string {
  const locks = Math.ceil(wrongCodes / wrongAttempts);
  return `${wrongCodes} wrong codes, at least ${hoursAndMinutes((locks - 1) * lockSeconds)}`;
}

/** How many users one IPv4 address can keep locked, by the wrong codes that it may send. */
function lockedAtOnce(
  { wrongAttempts, lockSeconds, wrongCodesLimit, addressLimit }: Policy,
): number {
  const locksAnHour = HOUR_SECONDS / lockSeconds;
  const byCodes = addressLimit * HOUR_SECONDS / QUARTER_SECONDS / locksAnHour;
  return Math.floor(Math.min((wrongCodesLimit ?? NaN) / (wrongAttempts * locksAnHour), byCodes));
}

/**
 * What strangers can do to one user without and with trusted devices.
 *
 * @param trusting the same policy with `device_days`
 */
export function deviceTable(policy: Policy, trusting: Policy): string {
  const strangers = trusting.wrongAttemptsUntilUnlock - trusting.deviceReserve;
  const all = policy.wrongAttemptsUntilUnlock;
  const chance = (guesses: number): string => percent(chanceOf(guesses, policy));
  const aDay = perDay(policy.wrongAttempts, policy.lockSeconds);
  const locked = lockedAtOnce(policy);
  return tableOf(['what strangers can do to one user', 'without devices', 'with `device_days`'], [
    ['guesses until the account is locked for them', `${all}, ${chance(all)}`,
      `${strangers}, ${chance(strangers)}`],
    ['guesses between which the user logs in on a trusted device',
      `${aDay} a day, ${chance(aDay)} a day`, `${strangers} in all, ${chance(strangers)}`],
    ['the same by the thief of its token', '–', `${aDay} a day, ${chance(aDay)} a day`],
    [`keep a trusted device out for ${policy.lockSeconds} s`,
      `${policy.wrongAttempts} wrong codes`, '–'],
    [`use up the codes of a trusted device for ${QUARTER_SECONDS} s`,
      `${policy.userLimit} requests`, '–'],
    ['keep a trusted device out until an operator unlocks', fewestHours(all, policy), '–'],
    [`keep any other client out for ${policy.lockSeconds} s`,
      `${policy.wrongAttempts} wrong codes`, `${trusting.wrongAttempts} wrong codes`],
    ['keep any other client out until an operator unlocks', fewestHours(all, policy),
      fewestHours(strangers, trusting)],
    ['users whom one IPv4 address can keep out all the time, on trusted devices', `${locked}`,
      '–'],
    ['users whom it can keep out all the time, on any other client', `${locked}`,
      `${lockedAtOnce(trusting)}`],
  ]);
}
