/** The dependencies of the operations. A function takes the ones that it uses, by Pick. */
import type { Secrets } from './crypto/secrets.ts';
import type { ConnectionPool } from '../db/pool.ts';
import type { Sweeper } from '../db/sweep/sweeper.ts';
import type { Delivery } from './delivery/delivery.ts';
import type { OtpCounts } from './metrics.ts';
import type { Policies } from './policy/policy.ts';

export type Deps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  sweeper: Sweeper;
  delivery: Delivery;
  counts?: OtpCounts;
}>;
