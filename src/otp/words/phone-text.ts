/** The text that goes to a phone: one message, with the line by which a browser knows its code. */
import { countSeptets, cutToSeptets, MESSAGE_MAX_SEPTETS, toGsmLine } from './gsm-text.ts';
import type { Template, Values } from './template.ts';

/**
 * Renders a text of at most 160 septets: a purpose for which there is no room is cut.
 *
 * @param template of characters of the alphabet, as `faultsOf` has it
 * @param domain the site where the code is typed in; null: no last line
 */
export function renderForPhone(template: Template, values: Values, domain: string | null): string {
  const lastLine = domain === null ? null : bindingLine(domain, values.code);
  const bare = measure(template, { ...values, purpose: '' }, lastLine);
  const room = (MESSAGE_MAX_SEPTETS - bare) / Math.max(template.count('purpose'), 1);
  const purpose = cutToSeptets(toGsmLine(values.purpose), room);
  const text = template.render({ ...values, purpose });
  if (lastLine === null) return text;
  const spaced = `${text}\n\n${lastLine}`;
  return countSeptets(spaced) <= MESSAGE_MAX_SEPTETS ? spaced : `${text}\n${lastLine}`;
}

/** How many septets a text takes that is not cut, with its last line. */
export function measureForPhone(template: Template, values: Values, domain: string | null): number {
  return measure(template, values, domain === null ? null : bindingLine(domain, values.code));
}

function measure(template: Template, values: Values, lastLine: string | null): number {
  const text = template.render(values);
  return countSeptets(lastLine === null ? text : `${text}\n${lastLine}`);
}

/**
 * Binds a code to the site that it is for: a browser offers it there and nowhere else (WICG,
 * Origin-bound one-time codes delivered via SMS, 2). It must be the last line.
 */
function bindingLine(domain: string, code: string): string {
  return `@${domain} #${code}`;
}
