/** The file that POLICY_FILE names: read at the start, and anew on SIGHUP. */
import { ConfigError, Reader } from './config-reader.ts';
import { parsePolicies } from './otp/policy-file.ts';
import { createPolicies } from './otp/policy.ts';
import type { Policies } from './otp/policy.ts';

/** Reads it; what is wrong goes to the faults of the reader, with file, path and allowed range. */
export function readPolicies(reader: Reader): Policies {
  const text = reader.readFile('POLICY_FILE');
  if (text === undefined) return createPolicies();
  const parsed = parsePolicies(text);
  if ('policies' in parsed) return parsed.policies;
  const path = reader.text('POLICY_FILE');
  reader.faults.push(...parsed.faults.map((fault) => `POLICY_FILE ${path}: ${fault}`));
  return createPolicies();
}

/**
 * Reads it anew.
 *
 * @throws ConfigError naming every fault, and that the policy in force stays
 */
export function readPoliciesAnew(path: string): Policies {
  const reader = new Reader({ POLICY_FILE: path });
  const policies = readPolicies(reader);
  const { faults } = reader;
  if (faults.length === 0) return policies;
  const message = ['the policy in force stays; the new one is at fault:', ...faults].join('\n  ');
  throw new ConfigError(message, { faults });
}
