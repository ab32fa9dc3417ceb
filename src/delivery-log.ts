/** The log of deliveries: without codes, destinations and texts of providers. */
import { member, USER_MAX_CHARACTERS, WORD_MAX_CHARACTERS } from './log-line.ts';
import type { Level } from './log-line.ts';
import { describeError } from './log.ts';
import type { Log } from './log.ts';
import type { DeliveryNote, NoteDelivery } from './otp/delivery/note.ts';
import type { Pseudonyms } from './otp/pseudonyms.ts';

const LEVELS: Readonly<Record<DeliveryNote['event'], Level>> = Object.freeze({
  delivery_retry: 'info',
  delivery_refused: 'warn',
  delivery_failed: 'warn',
  delivery_unreadable: 'error',
  delivery_taken_over: 'info',
  channel_paused: 'warn',
  channel_resumed: 'info',
  delivery_fault: 'error',
});

/**
 * Makes the log of deliveries.
 *
 * @param names of users, in place of themselves
 */
export function createDeliveryLog(log: Log, names: Pseudonyms): NoteDelivery {
  return ({ event, otpId, userId, channel, reason, count, error }) => {
    const user = userId === undefined ? undefined : names.user(userId);
    log.tell(LEVELS[event], event, member('otp_id', otpId, WORD_MAX_CHARACTERS)
      + member('user', user, USER_MAX_CHARACTERS)
      + member('channel', channel, WORD_MAX_CHARACTERS)
      + member('reason', reason, WORD_MAX_CHARACTERS)
      + (count === undefined ? '' : `,"count":${count}`)
      + (error === undefined ? '' : describeError(error, true)));
  };
}
