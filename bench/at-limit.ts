/** Brings users and addresses to their limits, so that what follows is refused. */
import type { Lab } from './lab.ts';
import { issueRequest, newAddress, newUser } from './requests.ts';
import type { AtLimit } from './requests.ts';
import type { Target } from './target.ts';

/** Enough that neither their rows nor their locks are one hot spot. */
const USERS = 100;
const ADDRESSES = 50;
const USER_LIMIT = 3;
const ADDRESS_LIMIT = 8;

/** The window is 900 s: what was brought to its limit is used no longer than this. */
const FRESH_MS = 600_000;

const SETUP_CONNECTIONS = 16;
const SETUP_MAX_SECONDS = 10;

const known = new Map<Target, { atLimit: AtLimit; until: number }>();

/** Users and addresses at their limits in one service, made anew before they are free again. */
export async function atLimitIn(lab: Lab, target: Target): Promise<AtLimit> {
  const found = known.get(target);
  if (found !== undefined && Date.now() < found.until) return found.atLimit;
  const atLimit: AtLimit = {
    users: Array.from({ length: USERS }, newUser),
    addresses: Array.from({ length: ADDRESSES }, newAddress),
  };
  const until = Date.now() + FRESH_MS;
  const requests = [
    ...repeat(atLimit.users, USER_LIMIT, (user) => issueRequest(user, newAddress())),
    ...repeat(atLimit.addresses, ADDRESS_LIMIT, (address) => issueRequest(newUser(), address)),
  ];
  const order = { target, connections: SETUP_CONNECTIONS, seconds: SETUP_MAX_SECONDS, requests };
  await lab.prepare(order);
  known.set(target, { atLimit, until });
  return atLimit;
}

function repeat<T>(items: readonly T[], times: number, make: (item: T) => string): string[] {
  return Array.from({ length: times }, () => items.map(make)).flat();
}
