/** Callers with keys, for tests; their keys and digests are noted for the leak test. */
import { newKey, SCOPES } from '../../src/http/input/api-keys.ts';
import type { Scope } from '../../src/http/input/api-keys.ts';
import { recordKey } from './leak-recorder.ts';

/** Those who may call a service under test. */
export type TestApiClients = Readonly<{
  /** As in API_KEYS. */
  apiKeys: string;
  /** The Authorization of a caller. */
  headersOf: (name: string) => Record<string, string>;
}>;

/** Makes a key for each name, good for everything unless scopes are given. */
export function newApiClients(
  names: readonly string[],
  scopes: readonly Scope[] = SCOPES,
): TestApiClients {
  const keys = new Map(names.map((name) => [name, newKey({ name, scopes })]));
  for (const { key, entry } of keys.values()) {
    recordKey(key);
    recordKey(entry.split(':')[2]!);
  }
  return {
    apiKeys: [...keys.values()].map(({ entry }) => entry).join(','),
    headersOf: (name) => ({ Authorization: `Bearer ${keys.get(name)!.key}` }),
  };
}
