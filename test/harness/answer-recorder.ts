/**
 * Records the answers of otpd that tests see, for the description check. Each process writes its
 * own file, next to those of the leak recorder.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

/** The kind of file of the records; the leak check leaves it out. */
export const ANSWERS = 'answers';

/** One request and its answer. */
export type Answer = Readonly<{
  /** Null when the bytes that were sent are no request line. */
  request: Readonly<{ method: string; target: string }> | null;
  status: number;
  /** Names and values in turn. */
  headers: readonly string[];
  body: string;
  /** The JSON body of the request, with zeros for the digits of a code; null for any other body. */
  sent: Readonly<Record<string, unknown>> | null;
}>;

let isBehindProxy = false;

/** Records nothing from now on: a proxy changes the answers of otpd, and gives some of its own. */
export function ignoreAnswersOfProxy(): void {
  isBehindProxy = true;
}

/** @param sent the body of the request */
export function recordAnswer(answer: Omit<Answer, 'sent'>, sent: string | undefined): void {
  const folder = process.env.OTPD_TEST_LEAKS;
  if (folder === undefined || isBehindProxy) return;
  const { request } = answer;
  const record: Answer = {
    ...answer, sent: parseSent(sent),
    request: request === null ? null : { method: request.method, target: request.target },
  };
  appendFileSync(join(folder, `${ANSWERS}.${process.pid}`), `${JSON.stringify(record)}\n`);
}

function parseSent(text = ''): Answer['sent'] {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return null;
    const { code, ...members } = value as Record<string, unknown>;
    return code === undefined ? members
      : { ...members, code: typeof code === 'string' ? code.replaceAll(/\d/g, '0') : code };
  } catch {
    return null;
  }
}

/** Like `fetch`, for a URL of otpd: records the answer. */
export async function fetchAnswer(url: string, options: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, options);
  const { method = 'GET', body } = options;
  const { pathname, search } = new URL(url);
  recordAnswer({
    request: { method, target: pathname + search },
    status: response.status,
    headers: [...response.headers].flat(),
    body: await response.clone().text(),
  }, typeof body === 'string' ? body : undefined);
  return response;
}
