/** `otpd doctor`: gathers what serve would use, and has it judged. */
import { examineDatabase } from './otp/commands/doctor/database.ts';
import { reportFindings } from './otp/commands/doctor/doctor.ts';
import { warn } from './otp/commands/doctor/finding.ts';
import type { Finding } from './otp/commands/doctor/finding.ts';
import { judgeDelivery, judgeFaults, judgeSettings } from './otp/commands/doctor/settings.ts';
import type { Report } from './otp/commands/report.ts';
import { ConfigError } from './config-reader.ts';
import type { Environment } from './config-reader.ts';
import { readConfig, readEnvironment, readServeConfig } from './config.ts';
import type { Config } from './config.ts';
import type { DeliverySettings } from './delivery-settings.ts';
import { readHostClock } from './host-clock.ts';
import { openChannels } from './open-channels.ts';
import { describeAbsent, joinDatabase } from './open-database.ts';
import { remark } from './terminal.ts';

/**
 * Examines all of it. What is at fault with one part does not hide the others.
 *
 * @param stop breaks off the start of the private server
 */
export async function examine(stop: AbortSignal): Promise<Report> {
  const environment = readEnvironment();
  const findings: Finding[] = [];
  const { config, delivery } = readParts(environment, findings);
  if (config !== null) {
    findings.push(...judgeSettings({
      host: config.host,
      trustsNobody: config.trustedProxies.empty,
      secrets: config.secrets,
      policyFile: config.policyFile,
      policies: config.policies,
    }));
  }
  if (delivery !== null) findings.push(...await judgeChannels(delivery));
  if (config !== null) findings.push(...await judgeDatabase(config, stop));
  return reportFindings(findings);
}

type Parts = Readonly<{ config: Config | null; delivery: DeliverySettings | null }>;

/** The faults of delivery leave the rest to be looked at. */
function readParts(environment: Environment, findings: Finding[]): Parts {
  const whole = attempt(() => readServeConfig(environment));
  if ('read' in whole) return { config: whole.read, delivery: whole.read.delivery };
  findings.push(...judgeFaults(whole.faults));
  const common = attempt(() => readConfig(environment));
  return { config: 'read' in common ? common.read : null, delivery: null };
}

function attempt<T>(read: () => T): { read: T } | { faults: readonly string[] } {
  try {
    return { read: read() };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { faults: error.faults };
  }
}

async function judgeChannels(delivery: DeliverySettings): Promise<Finding[]> {
  const facts = delivery.channels.map((channel) =>
    ({ name: channel.name, url: channel.name === 'webhook' ? channel.settings.url : null }));
  try {
    for (const channel of await openChannels(delivery)) channel.close();
    return judgeDelivery(facts, null);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return judgeDelivery(facts, error.message);
  }
}

async function judgeDatabase(config: Config, stop: AbortSignal): Promise<Finding[]> {
  const absent = describeAbsent(config);
  if (absent !== null) return [warn('connection', absent, 'npm start makes one')];
  const { settings, pool, close } = await joinDatabase(config, stop, remark);
  try {
    const { connections, workers } = config;
    const isPrivate = config.database === null;
    return await examineDatabase({
      settings, pool, connections, workers, isPrivate, readHostClock,
    });
  } finally {
    await close();
  }
}
