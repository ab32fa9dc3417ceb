/** `otpd secret new [ID]`: draws a server secret. It needs no database and no configuration. */
import { drawRandom } from '../draw.ts';
import { drawSecret, isSecretId, SECRET_ID_RULE } from '../secrets.ts';
import { UsageError } from './report.ts';
import type { Report } from './report.ts';

const ID_BYTES = 4;

const REMARK = 'put it first in OTP_SECRETS, NEW,OLD, in every process; keep the old one for as'
  + ' long as a code lives and its idempotency keys replay (24 h and 10 minutes, unless'
  + ' key_retention_seconds is more)';

/**
 * Draws a secret of 32 random bytes.
 *
 * @param id its name; a random one without it
 * @throws UsageError when it can have no such name
 */
export function newSecret(id: string = `k${drawRandom(ID_BYTES)}`): Report {
  if (!isSecretId(id)) throw new UsageError(`ID must be ${SECRET_ID_RULE}`);
  const secret = drawSecret(id);
  return { isDone: true, lines: [secret], data: { secret }, remark: REMARK };
}
