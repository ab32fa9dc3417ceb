/** `otpd doctor`: checks everything that `serve` would use. */
import { statSync } from 'node:fs';
import { openChannels } from '../../channels.ts';
import { checkDatabase, checkHosts } from './check-database.ts';
import {
  checkDelivery, checkKeyEnds, checkNode, checkSecretFiles, checkSettings, checkTests, toFindings,
} from './check-settings.ts';
import type { DeliverySettings } from '../../config/channels.ts';
import {
  envFilePath, readConfig, readEnvironment, readServeConfig,
} from '../../config/config.ts';
import type { Config } from '../../config/config.ts';
import { ConfigError, SECRET_FILES } from '../../config/env-reader.ts';
import { remarksOn } from '../../config/remarks.ts';
import type { Environment } from '../../config/env-reader.ts';
import { createPrimary, openPool } from '../../database.ts';
import { findClearText } from '../../config/database.ts';
import type { DatabaseSettings } from '../../../db/connection.ts';
import { fault, ok, warn } from '../../output.ts';
import { readHostClock } from '../../log/log.ts';
import type { Policies } from '../../../otp/policy/policy.ts';
import type { Finding, Report } from '../../output.ts';

/** The variables that name a file with a secret. */
const SECRET_FILE_VARIABLES: readonly string[] = ['TLS_KEY', ...Object.values(SECRET_FILES)];

const NO_DATABASE_REMEDY = 'correct the configuration; for a systemd unit, run doctor with its'
  + ' EnvironmentFile (docs/cli.md, "doctor")';

/** Runs every check. A fault in one part does not hide the findings about the others. */
export async function runDoctor(): Promise<Report> {
  const environment = readEnvironment();
  const findings = [checkNode(process.versions.node, readHostClock())];
  findings.push(...remarksOn(environment).map(({ found, remedy }) =>
    warn('configuration', found, remedy)));
  const { config, delivery } = readSettings(environment, findings);
  if (config !== null) {
    findings.push(...checkSettings({
      host: config.host,
      adminHost: config.admin?.host ?? null,
      hasApiKeys: config.apiKeys !== null,
      trustsNoProxy: config.trustedProxies.isEmpty,
      secrets: config.secrets,
      policyFile: config.policyFile,
      policies: config.policies,
    }), ...checkTests(config.policies.testIdentities, readHostClock()));
  }
  findings.push(...checkKeyEnds(config?.apiKeys?.clients ?? [], readHostClock()));
  findings.push(...checkSecretFiles(listSecretFiles(environment, config)));
  if (config !== null && delivery !== null) {
    findings.push(...await checkChannels(delivery, config.policies));
  }
  if (config !== null) findings.push(checkTransport(config.servers));
  if (config !== null) findings.push(...await checkDatabaseAndServer(config));
  else findings.push(fault('database', 'the database was not checked', NO_DATABASE_REMEDY));
  return reportFindings(findings);
}

/** The files that contain a secret, as far as they can be found. */
function listSecretFiles(environment: Environment, config: Config | null) {
  const hasFixedCodes = config?.policies.testIdentities.isEmpty === false;
  const named = Object.entries(environment)
    .filter(([name]) => SECRET_FILE_VARIABLES.includes(name)
      || (hasFixedCodes && name === 'POLICY_FILE'));
  return [['the configuration', envFilePath()], ...named].flatMap(([name = '', path = '']) => {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats === undefined ? [] : [{ name, path, mode: stats.mode }];
  });
}

type Settings = Readonly<{ config: Config | null; delivery: DeliverySettings | null }>;

/** Errors that concern only `serve` leave the rest of the configuration to be checked. */
function readSettings(environment: Environment, findings: Finding[]): Settings {
  const serving = attempt(() => readServeConfig(environment));
  if ('read' in serving) return { config: serving.read, delivery: serving.read.delivery };
  findings.push(...toFindings(serving.errors));
  const common = attempt(() => readConfig(environment));
  return { config: 'read' in common ? common.read : null, delivery: null };
}

function attempt<T>(read: () => T): { read: T } | { errors: readonly string[] } {
  try {
    return { read: read() };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { errors: error.errors };
  }
}

function checkTransport(servers: readonly DatabaseSettings[]): Finding {
  const clearText = findClearText(servers);
  if (clearText !== null) return fault('transport', clearText.found, clearText.remedy);
  const [{ tls }] = servers as [DatabaseSettings];
  return ok('transport', tls === 'off' ? 'the connection to MySQL stays on this machine'
    : `TLS to MySQL, DB_TLS=${tls}`);
}

async function checkChannels(
  delivery: DeliverySettings,
  policies: Policies,
): Promise<Finding[]> {
  const facts = delivery.channels.map((channel) =>
    ({ name: channel.name, url: channel.name === 'webhook' ? channel.settings.url : null }));
  try {
    const templates = delivery.templates.withLabels(policies);
    for (const channel of await openChannels(delivery, templates)) channel.close();
    return checkDelivery(facts, policies, null);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return checkDelivery(facts, policies, error.message);
  }
}

async function checkDatabaseAndServer(config: Config): Promise<Finding[]> {
  const { connections, workers, servers } = config;
  const { settings, findings } = await checkHosts(servers, config.consistency);
  const one = { ...config, servers: [settings] };
  const pool = openPool(one, createPrimary(one));
  try {
    const target = { settings, pool, connections, workers, readHostClock };
    return [...findings, ...await checkDatabase(target)];
  } finally {
    pool.close();
  }
}

const LEVEL_WIDTH = 5;
const CHECK_WIDTH = 13;

/** A fault makes the exit code 1; a warning does not. */
export function reportFindings(findings: readonly Finding[]): Report {
  const count = (level: Finding['level']): number =>
    findings.filter((finding) => finding.level === level).length;
  const [faults, warnings] = [count('fault'), count('warn')];
  const outcome = faults > 0 ? 'fault' : warnings > 0 ? 'warn' : 'ok';
  const sum = `${pluralize(faults, 'fault')}, ${pluralize(warnings, 'warning')}`;
  return {
    isDone: faults === 0,
    lines: [...findings.map(toLine), sum],
    data: { outcome, faults, warnings, findings },
  };
}

function toLine({ level, check, found, remedy }: Finding): string {
  const start = `${level.padEnd(LEVEL_WIDTH)}  ${check.padEnd(CHECK_WIDTH)}  ${found}`;
  return remedy === null ? start : `${start}; ${remedy}`;
}

function pluralize(count: number, word: string): string {
  return `${count === 0 ? 'no' : count} ${word}${count === 1 ? '' : 's'}`;
}
