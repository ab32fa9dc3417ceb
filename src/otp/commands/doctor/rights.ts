/** What the account may do: all that serving needs, and little more. */
import type { WriteTrial } from '../../../db/try-writes.ts';
import { fault, ok, warn } from './finding.ts';
import type { Finding } from './finding.ts';

/** All tables of all databases, with more than the right to connect. */
const EVERYWHERE = /^GRANT (?!USAGE ON)(.+) ON \*\.\* TO /;

/** What the account is to do its work with. */
export type Account = Readonly<{ name: string; database: string; isPrivate: boolean }>;

/** Judges what came of trying. */
export function judgeTrial({ denied, failure }: WriteTrial, account: Account): Finding {
  if (failure !== null) {
    return fault('grants', `a write failed: ${failure.message}`,
      'see MySQL\'s error log, and its disk');
  }
  if (denied.length === 0) {
    return ok('grants', 'SELECT, INSERT, UPDATE and DELETE work on every table');
  }
  const list = [...new Set(denied.map(({ privilege }) => privilege))].map((privilege) => {
    const tables = denied.filter((right) => right.privilege === privilege);
    return `${privilege} on ${tables.map(({ table }) => table).join(', ')}`;
  }).join('; ');
  const { database, name } = account;
  return fault('grants', `the account lacks ${list}`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON \`${database}\`.* TO ${name}`);
}

/** Judges whether the account has more than it needs; the private server has but one account. */
export function judgeGrants(grants: readonly string[], { name, isPrivate }: Account): Finding[] {
  if (isPrivate || !grants.some((grant) => EVERYWHERE.test(grant))) return [];
  return [warn('grants', `${name} has rights on every database of the server`,
    'serve with an account of otpd\'s own, and migrate with that one')];
}
