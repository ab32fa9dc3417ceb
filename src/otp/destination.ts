/** Where a message goes, coarsely: the region of a phone number, the domain of a mailbox. */
import { domainOf, isPlainAddress } from './channels/email-address.ts';
import { PHONE_NUMBER } from './channels/sms-settings.ts';

/**
 * The destination of a user_id.
 *
 * @param digits how many digits of a phone number are looked at
 * @returns `+` and the first digits of a phone number, the domain of an e-mail address in lower
 *   case, or null for any other user_id
 */
export function destinationOf(userId: string, digits: number): string | null {
  if (PHONE_NUMBER.test(userId)) return userId.slice(0, 1 + digits);
  return isPlainAddress(userId) ? domainOf(userId).toLowerCase() : null;
}
