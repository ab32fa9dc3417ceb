/**
 * The log of deliveries, of signals and of what an operator should know. A line contains no code,
 * no destination and no text from a provider.
 */
import { member, LOGGED_USER_MAX_CHARACTERS, WORD_MAX_CHARACTERS } from './line.ts';
import type { Level } from './line.ts';
import { describeError } from './log.ts';
import type { Log } from './log.ts';
import type { Notice } from '../../http/connection.ts';
import type { Pseudonyms } from '../../otp/crypto/secrets.ts';
import type { PrimaryEvent } from '../../db/primary.ts';
import type { DeliveryEvent, OnDeliveryEvent } from '../../otp/delivery/events.ts';
import { messageOf } from '../output.ts';
import type { ReloadEvent } from '../process/reload.ts';
import type { RollEvent } from '../process/rolling-restart.ts';

const LEVELS: Readonly<Record<DeliveryEvent['event'], Level>> = Object.freeze({
  delivery_retry: 'info',
  delivery_denied: 'error',
  delivery_refused: 'warn',
  delivery_undelivered: 'warn',
  delivery_failed: 'warn',
  delivery_unreadable: 'error',
  delivery_taken_over: 'info',
  channel_paused: 'warn',
  channel_resumed: 'info',
  delivery_fault: 'error',
});

export function createDeliveryLog(log: Log, pseudonyms: Pseudonyms): OnDeliveryEvent {
  return ({ event, otpId, userId, channel, reason, count, error }) => {
    const user = userId === undefined ? undefined : pseudonyms.user(userId);
    log.log(LEVELS[event], event, member('otp_id', otpId, WORD_MAX_CHARACTERS)
      + member('user', user, LOGGED_USER_MAX_CHARACTERS)
      + member('channel', channel, WORD_MAX_CHARACTERS)
      + member('reason', reason, WORD_MAX_CHARACTERS)
      + (count === undefined ? '' : `,"count":${count}`)
      + (error === undefined ? '' : describeError(error, true)));
  };
}

/** Never throws, because signal handlers call it. */
export type LogSignal = (event: ReloadEvent | RollEvent) => void;

/** Room for many errors of one policy file. */
const ERRORS_MAX_CHARACTERS = 3000;

export function createSignalLog(log: Log): LogSignal {
  return (event) => {
    const isError = 'error' in event;
    log.log(isError ? 'error' : 'info', event.event,
      ('name' in event ? member('name', event.name, WORD_MAX_CHARACTERS) : '')
      + ('changes' in event ? describeChanges(event.changes) : '')
      + ('worker' in event ? `,"worker":${event.worker}` : '')
      + (isError ? member('message', messageOf(event.error), ERRORS_MAX_CHARACTERS) : ''));
  };
}

/** The longest name of a host (RFC 1035, 2.3.4), with a port. */
const HOST_MAX_CHARACTERS = 270;

const SPLIT = 'these hosts take writes and are not of one group, so their data diverge; otpd uses'
  + ' none of them until all but one are read-only';

const NOTICES: Readonly<Record<Notice, string>> = Object.freeze({
  proxy_not_trusted: 'a peer sends X-Forwarded-For or Forwarded and is not in TRUSTED_PROXIES, so'
    + ' all clients behind it count as one client IP; if it is your proxy, list it there',
  peer_connections_refused: 'a peer has as many connections as one may have, and more are reset;'
    + ' if it is your proxy or application, list it in TRUSTED_PROXIES',
});

/** Logs each notice once in the life of a process, because it says what to configure. */
export function createNoticeLog(log: Log): (notice: Notice) => void {
  const known = new Set<Notice>();
  return (notice) => {
    if (known.has(notice)) return;
    known.add(notice);
    log.log('warn', notice, member('message', NOTICES[notice], ERRORS_MAX_CHARACTERS));
  };
}

/** A member for each list that is not empty: the names, separated by commas. */
function describeChanges(changes: Readonly<Record<string, readonly string[]>>): string {
  return Object.entries(changes).map(([name, names]) =>
    member(name, names.length === 0 ? undefined : names.join(), ERRORS_MAX_CHARACTERS)).join('');
}

/** Logs that the primary is another host, or that two hosts take writes. */
export function createPrimaryLog(log: Log): (event: PrimaryEvent) => void {
  return (event) => {
    if (event.event === 'database_moved') {
      log.log('warn', event.event, member('from', event.from, HOST_MAX_CHARACTERS)
        + member('to', event.to, HOST_MAX_CHARACTERS));
      return;
    }
    log.log('error', event.event, member('hosts', event.hosts.join(), ERRORS_MAX_CHARACTERS)
      + member('message', SPLIT, ERRORS_MAX_CHARACTERS));
  };
}
