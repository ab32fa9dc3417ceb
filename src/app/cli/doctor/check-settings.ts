/** Checks of Node.js and of the configuration, which need no database. */
import { fault, ok, warn } from '../../output.ts';
import type { Finding } from '../../output.ts';
import { MICROSECONDS_PER_DAY } from '../../../db/instant.ts';
import type { Instant } from '../../../db/instant.ts';
import type { ApiClient } from '../../../http/input/api-keys.ts';
import { isLoopbackHost } from '../../../otp/channels/channel.ts';
import { quoteAscii } from '../../../otp/channels/console.ts';
import { toRfc3339 } from '../../../otp/outcomes.ts';
import type { Secrets } from '../../../otp/crypto/secrets.ts';
import type { LimitName, Policies, Policy } from '../../../otp/policy/policy.ts';
import { findLateEnds } from '../../../otp/policy/test-identities.ts';
import type { TestIdentities } from '../../../otp/policy/test-identities.ts';

/** End of support of the release lines with long-term support (nodejs/Release, schedule.json). */
const NODE_SUPPORT_ENDS: ReadonlyMap<number, string> = new Map([
  [20, '2026-04-30'],
  [22, '2027-04-30'],
  [24, '2028-04-30'],
]);

/** The last release line without long-term support; from 27 on every line has it. */
const LAST_SHORT_NODE = 25;

const RECOMMENDED_NODE = 24;

/** The permission of group and others to read a file, and all permissions. */
const OTHERS_READ = 0o044;
const ALL_BITS = 0o777;

const DATE_CHARACTERS = '2026-04-30'.length;

/**
 * Checks that the release line of Node.js still gets security fixes.
 *
 * @param version such as 24.12.0
 * @param now the clock of this machine
 */
export function checkNode(version: string, now: Instant): Finding {
  const name = `Node.js ${version}`;
  const major = Number(version.split('.')[0]);
  const end = NODE_SUPPORT_ENDS.get(major);
  const remedy = `run otpd with Node.js ${RECOMMENDED_NODE}`;
  if (end === undefined) {
    return major > LAST_SHORT_NODE ? ok('node', name)
      : warn('node', `${name} is out of support`, remedy);
  }
  return toRfc3339(now).slice(0, DATE_CHARACTERS) < end
    ? ok('node', `${name}, supported until ${end}`)
    : warn('node', `${name} is out of support since ${end}`, remedy);
}

/** Findings contain names, numbers and paths of these settings, and no other value. */
type Settings = Readonly<{
  host: string;
  /** Null: there is no admin listener. */
  adminHost: string | null;
  hasApiKeys: boolean;
  trustsNoProxy: boolean;
  secrets: Secrets;
  policyFile: string | null;
  policies: Policies;
}>;

type ChannelFacts = Readonly<{ name: string; url: URL | null }>;

export function toFindings(errors: readonly string[]): Finding[] {
  return errors.map((text) => fault('configuration', text,
    'set it in the environment or in .env; .env.example explains it'));
}

export function checkSettings(settings: Settings): Finding[] {
  const { adminHost, secrets, policyFile, policies } = settings;
  return [
    checkCallers(settings),
    ...(adminHost === null ? [] : [checkAdminHost(adminHost)]),
    ok('secrets', `${secrets.byId.size} configured; new codes use ${secrets.current.id}`),
    policyFile === null ? ok('policy', 'the default policy')
      : checkPolicy(policyFile, policies.default),
  ];
}

/** Judges who can call, and whether the users of those callers are told apart. */
function checkCallers({ host, hasApiKeys, trustsNoProxy }: Settings): Finding {
  if (hasApiKeys) {
    return trustsNoProxy ? ok('callers', 'API_KEYS is set')
      : warn('callers', 'with API_KEYS, TRUSTED_PROXIES names no client IP; it only lifts the bound'
        + ' on the connections of one peer', 'let the applications send X-Client-IP, and keep'
        + ' TRUSTED_PROXIES only for peers that reach this bound');
  }
  if (!isLoopbackHost(host)) {
    return fault('callers', `HOST is ${host} without API_KEYS: anyone who reaches the port can`
      + ' request codes, and can learn whether a user has requested one',
    'set API_KEYS (npm run -s key -- new NAME), or set HOST to a loopback address');
  }
  return trustsNoProxy
    ? warn('callers', 'without TRUSTED_PROXIES and API_KEYS, all users behind a proxy or an'
      + ' application on this machine count as one client IP',
    'name the proxy in TRUSTED_PROXIES, or set API_KEYS and send X-Client-IP')
    : ok('callers', 'TRUSTED_PROXIES is set; only this machine can connect');
}

function checkAdminHost(host: string): Finding {
  return isLoopbackHost(host) ? ok('admin', 'only this machine can read health and metrics')
    : fault('admin', `ADMIN_HOST is ${host}: health and metrics need no key`,
      'set ADMIN_HOST to a loopback address, or keep the port on a private network');
}

/** Time in which a new key reaches its application. */
const KEY_NOTICE_DAYS = 14;

/** Warns of API keys that have ended, or end soon. */
export function checkKeyEnds(apiClients: readonly ApiClient[], now: Instant): Finding[] {
  return apiClients.flatMap(({ name, endsAt }) => {
    if (endsAt === null || endsAt - now > KEY_NOTICE_DAYS * MICROSECONDS_PER_DAY) return [];
    const verb = endsAt <= now ? 'ended' : 'ends';
    return [warn('api keys', `the key of ${name} ${verb} at ${toRfc3339(endsAt)}`,
      'create a new one (npm run -s key -- new NAME), or remove the entry')];
  });
}

/** Names every test identity with its last day. */
export function checkTests(tests: TestIdentities, now: Instant): Finding[] {
  const late = findLateEnds(tests, now).map((error) =>
    fault('test identities', error, 'otpd does not start with it'));
  return [...late, ...tests.list.map(({ user, isPrefix, purposes, endsAt }) => {
    const who = `${isPrefix ? 'every user_id that begins with ' : ''}${quoteAscii(user)}`;
    const until = toRfc3339(endsAt - 1).slice(0, DATE_CHARACTERS);
    return endsAt > now
      ? warn('test identities', `${who} has a fixed code for ${purposes.join(' and ')} until`
        + ` ${until}, and gets no message`, 'remove it from POLICY_FILE when the tests are done')
      : warn('test identities', `${who} has had no fixed code since ${until}`,
        'remove it from POLICY_FILE');
  })];
}

/** Judges files that contain a secret: only their owner may read them. */
export function checkSecretFiles(
  files: readonly Readonly<{ name: string; path: string; mode: number }>[],
): Finding[] {
  return files.filter(({ mode }) => (mode & OTHERS_READ) !== 0).map(({ name, path, mode }) =>
    fault('secret files', `${name} ${path} has mode ${(mode & ALL_BITS).toString(8)}: other`
      + ' accounts of this machine can read it', `chmod 600 ${path}`));
}

/** Names the extra limits of the default policy, its trust in devices, and what only counts. */
function checkPolicy(file: string, policy: Policy): Finding {
  const {
    userDailyLimit, destinationLimit, wrongCodesLimit, wrongCodesNetLimit, deviceDays, shadow,
  } = policy;
  const extra = [
    limitText(userDailyLimit, 'codes per user and day'),
    limitText(destinationLimit, 'codes per destination and hour'),
    limitText(wrongCodesLimit, 'wrong codes per client IP and hour'),
    limitText(wrongCodesNetLimit, 'wrong codes per IPv6 /48 and hour'),
    limitText(deviceDays, 'days of trust in a device'),
  ].flatMap((text) => text ?? []);
  const read = [`read from ${file}`, ...extra].join('; ');
  return shadow.size === 0 ? ok('policy', read)
    : warn('policy', `${read}; in shadow mode, so nothing is refused: ${[...shadow].join(', ')}`,
      'remove "shadow" when the metrics show that the right requests would be refused');
}

function limitText(limit: number | null, what: string): string | null {
  return limit === null || limit === Infinity ? null : `${limit} ${what}`;
}

/** Channels whose messages cost money or reputation. */
const SPENDING: readonly string[] = ['sms', 'email'];

/** Each policy needs a limit on messages that holds for longer than a quarter of an hour. */
function checkSpending(names: readonly string[], policies: Policies): Finding[] {
  const spending = names.filter((name) => SPENDING.includes(name));
  const all = policies.listed.map((purpose) => policies.for(purpose));
  if (policies.isOpen) all.push(policies.default);
  const isUnbounded = all.some((policy) => !isEnforced(policy, 'user_daily',
    policy.userDailyLimit) && !isEnforced(policy, 'destination', policy.destinationLimit));
  if (spending.length === 0 || !isUnbounded) return [];
  return [fault('spending', 'neither user_daily_limit nor destination_limit bounds the messages'
    + ` sent by ${spending.join(' and ')}`, 'set one of them in POLICY_FILE (docs/policy.md)')];
}

function isEnforced({ shadow }: Policy, name: LimitName, limit: number | null): boolean {
  return limit !== null && limit !== Infinity && !shadow.has(name);
}

/** @param error the error of opening the channels, or null */
export function checkDelivery(
  channels: readonly ChannelFacts[],
  policies: Policies,
  error: string | null,
): Finding[] {
  if (error !== null) return [fault('delivery', error, 'then restart otpd')];
  const names = channels.map(({ name }) => name);
  const findings = checkSpending(names, policies);
  for (const { name, url } of channels) {
    if (url?.protocol === 'http:') {
      findings.push(warn('delivery', `${name} sends codes unencrypted to ${url.host}`,
        'use https, unless the network is private'));
    }
  }
  if (names.includes('console')) {
    findings.push(warn('delivery', `codes are printed on the terminal (${names.join(', ')})`,
      'name webhook, sms or email in DELIVERY'));
  }
  if (findings.length > 0) return findings;
  return [ok('delivery', `by ${names.join(', ')}; the templates are valid`)];
}
