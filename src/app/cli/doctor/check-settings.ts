/** Checks of Node.js and of the configuration, which need no database. */
import { fault, ok, warn } from './finding.ts';
import type { Finding } from './finding.ts';
import type { Instant } from '../../../db/instant.ts';
import { isLoopbackHost } from '../../../otp/channels/channel.ts';
import { toRfc3339 } from '../../../otp/outcomes.ts';
import type { Secrets } from '../../../otp/crypto/secrets.ts';
import type { Policies, Policy } from '../../../otp/policy/policy.ts';

/** End of support of the release lines with long-term support (nodejs/Release, schedule.json). */
const NODE_SUPPORT_ENDS: ReadonlyMap<number, string> = new Map([
  [20, '2026-04-30'],
  [22, '2027-04-30'],
  [24, '2028-04-30'],
]);

/** The last release line without long-term support; from 27 on every line has it. */
const LAST_SHORT_NODE = 25;

const RECOMMENDED_NODE = 24;

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
  const { host, trustsNoProxy, secrets, policyFile, policies } = settings;
  const isPublic = !isLoopbackHost(host);
  return [
    isPublic && trustsNoProxy
      ? warn('proxies', `HOST is ${host}, and TRUSTED_PROXIES is empty`,
        'name your proxies in TRUSTED_PROXIES, or all requests through one count as one client IP')
      : ok('proxies', trustsNoProxy ? 'only this machine can connect' : 'TRUSTED_PROXIES is set'),
    ok('secrets', `${secrets.byId.size} configured; new codes use ${secrets.current.id}`),
    policyFile === null ? ok('policy', 'the default policy')
      : checkPolicy(policyFile, policies.default),
  ];
}

/** Names the extra limits of the default policy, and those that only count (shadow). */
function checkPolicy(file: string, policy: Policy): Finding {
  const { userDailyLimit, destinationLimit, wrongCodesLimit, shadow } = policy;
  const extra = [
    limitText(userDailyLimit, 'codes per user and day'),
    limitText(destinationLimit, 'codes per destination and hour'),
    limitText(wrongCodesLimit, 'wrong codes per client IP and hour'),
  ].flatMap((text) => text ?? []);
  const read = [`read from ${file}`, ...extra].join('; ');
  return shadow.size === 0 ? ok('policy', read)
    : warn('policy', `${read}; in shadow mode, so nothing is refused: ${[...shadow].join(', ')}`,
      'remove "shadow" when the metrics show that the right requests would be refused');
}

function limitText(limit: number | null, what: string): string | null {
  return limit === null || limit === Infinity ? null : `${limit} ${what}`;
}

/** @param error the error of opening the channels, or null */
export function checkDelivery(
  channels: readonly ChannelFacts[],
  error: string | null,
): Finding[] {
  if (error !== null) return [fault('delivery', error, 'then restart otpd')];
  const names = channels.map(({ name }) => name);
  const findings = channels.flatMap(({ name, url }) => (url?.protocol !== 'http:' ? [] : [
    warn('delivery', `${name} sends codes unencrypted to ${url.host}`,
      'use https, unless the network is private'),
  ]));
  if (names.includes('console')) {
    findings.push(warn('delivery', `codes are printed on the terminal (${names.join(', ')})`,
      'name webhook, sms or email in DELIVERY'));
  }
  if (findings.length > 0) return findings;
  return [ok('delivery', `by ${names.join(', ')}; the templates are valid`)];
}
