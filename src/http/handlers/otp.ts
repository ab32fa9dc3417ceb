/**
 * One OTP: GET and DELETE (docs/api.md, "GET /otp/{otp_id}" and "DELETE /otp/{otp_id}"), and the
 * report of a provider on its message (docs/api.md, "POST /sms/status/{report}"). One user: what
 * support sees and does (docs/support.md).
 */
import type { HandlerInput, MethodHandler } from '../handler.ts';
import { allowsPurpose, NO_SCOPE } from '../input/api-keys.ts';
import { parseJsonObject, parsePurpose, parseUserId } from '../input/body.ts';
import { otpIdOf, reportOf } from '../input/request-head.ts';
import { toRfc3339 } from '../../otp/outcomes.ts';
import type { CancelOutcome, ReportOutcome, StatusOutcome } from '../../otp/outcomes.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import type { OtpService } from '../../otp/service.ts';
import { responseForError, errorResponse, invalidField } from '../response.ts';
import type { FieldError, HttpResponse, LogContext } from '../response.ts';

export function createStatusHandler(service: OtpService): MethodHandler {
  return {
    content: null,
    scopes: ['read'],
    parseKey: () => null,
    handle: (input) => getStatus(service, input),
  };
}

/**
 * Reads the state of an OTP. Never rejects: 200 known, 403 for a purpose that the API client may
 * not use, 404 unknown, 503 when the database does not answer, else 500.
 */
async function getStatus(
  service: OtpService,
  { path, purposes, isConnected, answerByMs }: HandlerInput,
): Promise<HttpResponse> {
  const otpId = otpIdOf(path);
  try {
    const outcome = await service.status(otpId, isConnected, answerByMs);
    const isForbidden = outcome.kind === 'known' && !allowsPurpose(purposes, outcome.purpose);
    return { ...(isForbidden ? NO_SCOPE : statusResponse(outcome)), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function statusResponse(outcome: StatusOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'known': return known(outcome);
    case 'unknown': return errorResponse('otp_not_found');
    default: return outcome satisfies never;
  }
}

function known(outcome: Extract<StatusOutcome, { kind: 'known' }>): HttpResponse {
  const body = JSON.stringify({
    otp_id: outcome.otpId,
    purpose: outcome.purpose,
    status: outcome.status,
    channel: outcome.channel,
    created_at: toRfc3339(outcome.createdAt),
    expires_at: toRfc3339(outcome.expiresAt),
  });
  return { code: 'known', body, headers: [], close: false };
}

const CANCELED: HttpResponse = Object.freeze(
  { code: 'canceled', body: '', headers: [], close: false },
);

export function createCancelHandler(service: Pick<OtpService, 'cancel'>): MethodHandler {
  return {
    content: null,
    scopes: ['request', 'admin'],
    parseKey: () => null,
    handle: (input) => cancelOtp(service, input),
  };
}

/**
 * Cancels an OTP. Never rejects: 204 when canceled now or earlier, 403 when another API client
 * requested it or its purpose is not allowed, 404 unknown, 410 used or expired, 503 when the
 * database does not answer, else 500.
 */
async function cancelOtp(
  service: Pick<OtpService, 'cancel'>,
  { path, apiClient, scopes, purposes, isConnected, answerByMs }: HandlerInput,
): Promise<HttpResponse> {
  const otpId = otpIdOf(path);
  const canceler = scopes.includes('admin') ? null : apiClient;
  try {
    const cancellation = { otpId, apiClient: canceler, purposes };
    const outcome = await service.cancel(cancellation, isConnected, answerByMs);
    return { ...cancelResponse(outcome), context: { otpId } };
  } catch (error) {
    return { ...responseForError(error), context: { otpId } };
  }
}

function cancelResponse(outcome: CancelOutcome): HttpResponse {
  switch (outcome.kind) {
    case 'canceled': return CANCELED;
    case 'unknown': return errorResponse('otp_not_found');
    case 'forbidden': return NO_SCOPE;
    case 'used': return errorResponse('code_used');
    case 'expired': return errorResponse('code_expired');
    default: return outcome.kind satisfies never;
  }
}

const REPORTED: HttpResponse = Object.freeze(
  { code: 'reported', body: '', headers: [], close: false },
);

/** @param notFound the response to an unknown path, which an unknown report must not differ from */
export function createReportHandler(
  report: NonNullable<OtpService['report']>,
  notFound: HttpResponse,
): MethodHandler {
  const toResponse = ({ kind }: ReportOutcome): HttpResponse => {
    switch (kind) {
      case 'noted': return REPORTED;
      case 'unknown': return notFound;
      case 'malformed': return invalidField({ field: 'MessageStatus', message: 'is required' });
      default: return kind satisfies never;
    }
  };
  return {
    content: 'form',
    scopes: null,
    parseKey: () => null,
    // Never rejects. The otp_id is logged only once the seal has proved it.
    handle: async ({ path, body, isConnected, answerByMs }) => {
      const sent = { ...reportOf(path), body: body.toString('utf8') };
      try {
        const outcome = await report(sent, isConnected, answerByMs);
        const context = outcome.kind === 'noted' ? { context: { otpId: sent.otpId } } : {};
        return { ...toResponse(outcome), ...context };
      } catch (error) {
        return { ...responseForError(error), context: { otpId: sent.otpId } };
      }
    },
  };
}

/** The result of a command: `outcome` and the other members of the body. */
type SupportReport = Readonly<{ data: Readonly<Record<string, unknown>> }>;

const CODE_BY_OUTCOME = Object.freeze({
  known: 'shown', unlocked: 'unlocked', not_locked: 'not_locked', revoked: 'revoked',
  unknown: 'user_not_found',
} as const);

/** What support does for a user, as the commands of otpd do it. */
export type Support = Readonly<{
  show: (userId: string) => Promise<SupportReport>;
  /** A null purpose or device stands for all of the user. */
  unlock: (userId: string, purpose: string | null) => Promise<SupportReport>;
  revoke: (userId: string, device: string | null) => Promise<SupportReport>;
  cancel: OtpService['cancel'];
  policies: Policies;
}>;

/** Everything but the slash, which separates the parts of a path. */
const USER_PATH = /^\/users\/([!-.0-~]+?)(\/unlock|\/revoke)?$/;

/** The user, still percent-encoded, and what follows; null for the path of no user. */
export function userPathOf(path: string): Readonly<{ user: string; operation: string }> | null {
  const [, user, operation = ''] = USER_PATH.exec(path) ?? [];
  return user === undefined ? null : { user, operation };
}

export function createUserHandlers(
  support: Support,
): Readonly<Record<'show' | 'unlock' | 'revoke', MethodHandler>> {
  return {
    show: createSupportHandler(null, (userId, { purposes }) =>
      (purposes === null ? support.show(userId) : null)),
    unlock: createSupportHandler(['purpose'], (userId, { purposes }, { purpose }) => {
      if (purpose === undefined) return purposes === null ? support.unlock(userId, null) : null;
      const name = parsePurpose(purpose, support.policies);
      if (typeof name !== 'string') return name;
      return allowsPurpose(purposes, name) ? support.unlock(userId, name) : null;
    }),
    revoke: createSupportHandler(['device'], (userId, { purposes }, { device }) => {
      if (device !== undefined && !isDevice(device)) return DEVICE_ERROR;
      return purposes === null ? support.revoke(userId, device ?? null) : null;
    }),
  };
}

const DEVICE_ERROR: FieldError = Object.freeze({
  field: 'device', message: 'must be a string of 16 lower-case hexadecimal digits',
});

function isDevice(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);
}

/** Null: the API key may not use all purposes, and what it asks for concerns another one. */
type Operation = (
  userId: string,
  input: HandlerInput,
  members: Readonly<Record<string, unknown>>,
) => Promise<SupportReport> | FieldError | null;

/**
 * Never rejects: 200 done, 400 for the user or a member, 403 for a purpose that the API client may
 * not use, 404 for an unknown user, 503 when the database does not answer, else 500.
 *
 * @param members the members that the body may have; null when the operation takes no body
 */
function createSupportHandler(
  members: readonly string[] | null,
  operate: Operation,
): MethodHandler {
  const handle = async (input: HandlerInput): Promise<HttpResponse> => {
    const userId = parseUserId(userIdIn(input.path));
    if (typeof userId !== 'string') return invalidField(userId);
    const object = members === null ? { members: {} } : parseJsonObject(input.body, members);
    if ('field' in object) return withContext(invalidField(object), { userId });
    const { purpose, device } = object.members;
    const context = {
      userId,
      ...(typeof purpose === 'string' ? { purpose } : {}),
      ...(isDevice(device) ? { device } : {}),
    };
    try {
      const done = await operate(userId, input, object.members);
      if (done === null) return withContext(NO_SCOPE, context);
      return withContext('field' in done ? invalidField(done) : supportResponse(done), context);
    } catch (error) {
      return withContext(responseForError(error), context);
    }
  };
  return {
    content: members === null ? null : 'json', scopes: ['admin'], parseKey: () => null, handle,
  };
}

/** Undefined when the path is not the percent-encoding of UTF-8. */
function userIdIn(path: string): string | undefined {
  try {
    return decodeURIComponent(userPathOf(path)?.user ?? '');
  } catch {
    return undefined;
  }
}

function supportResponse({ data }: SupportReport): HttpResponse {
  const code = CODE_BY_OUTCOME[data.outcome as keyof typeof CODE_BY_OUTCOME];
  if (code === 'user_not_found') return errorResponse(code);
  return { code, body: JSON.stringify(data), headers: [], close: false };
}

function withContext(response: HttpResponse, context: LogContext): HttpResponse {
  return { ...response, context: { ...response.context, ...context } };
}
