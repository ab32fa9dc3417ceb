/** API clients with keys; the leak recorder gets their keys and digests. */
import { newKey, SCOPES } from '../../src/http/input/api-keys.ts';
import type { Scope } from '../../src/http/input/api-keys.ts';
import { recordKey } from './leak-recorder.ts';

export type TestApiClients = Readonly<{
  /** As in API_KEYS. */
  apiKeys: string;
  /** The Authorization header of an API client. */
  headersOf: (name: string) => Record<string, string>;
}>;

/** Makes a key for each name, with all scopes by default, or with those of its name. */
export function newApiClients(
  names: readonly string[],
  scopes: readonly Scope[] | ((name: string) => readonly Scope[]) = SCOPES,
): TestApiClients {
  const scopesOf = typeof scopes === 'function' ? scopes : () => scopes;
  const keys = new Map(names.map((name) => [name, newKey({ name, scopes: scopesOf(name) })]));
  for (const { key, entry } of keys.values()) {
    recordKey(key);
    recordKey(entry.split(':')[2]!);
  }
  return {
    apiKeys: [...keys.values()].map(({ entry }) => entry).join(','),
    headersOf: (name) => ({ Authorization: `Bearer ${keys.get(name)!.key}` }),
  };
}
