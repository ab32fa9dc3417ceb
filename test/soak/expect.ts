/** What each response must be, byte for byte (docs/api.md). */
import type { Answer } from './wire.ts';

/** The otp_id of a 201 with this number of requests left; null for any other response. */
export function issuedId({ status, body }: Answer, left: number): string | null {
  const [, otpId, remaining] =
    /^\{"otp_id":"([0-9a-f]{32})","ttl":300,"remaining_requests":(\d)\}$/.exec(body) ?? [];
  return status === 201 && remaining === String(left) ? otpId! : null;
}

/** 429 for a request over the limit of the user. */
export function isLimited(answer: Answer): boolean {
  const [, seconds = ''] =
    /^\{"error":"rate_limit_exceeded","remaining_cooldown_seconds":(\d+)\}$/
      .exec(answer.body) ?? [];
  return answer.status === 429 && headerOf(answer, 'Retry-After') === seconds
    && Number(seconds) >= 1 && Number(seconds) <= 900;
}

/** 401 for a wrong code, after `uncounted` attempts without a response that may have counted. */
export function isWrongCode({ status, body }: Answer, uncounted: number): boolean {
  const left = Number(/^\{"error":"invalid_code","attempts_remaining":([12])\}$/.exec(body)?.[1]);
  return status === 401 && left <= 2 && left >= 2 - uncounted;
}

/** 200 for the right code. */
export function isRedeemed({ status, body }: Answer): boolean {
  return status === 200 && body === '{"success":true,"message":"verification_successful"}';
}

/** 410 for a code that was redeemed before. */
export function isUsed({ status, body }: Answer): boolean {
  return status === 410 && body === '{"error":"code_used"}';
}

/** The first response again, marked as a replay. */
export function isReplay(answer: Answer, first: Answer): boolean {
  return answer.status === first.status && answer.body === first.body
    && headerOf(answer, 'Idempotent-Replayed') === 'true';
}

function headerOf({ head }: Answer, name: string): string | undefined {
  return new RegExp(`\r\n${name}: (.*)`).exec(head)?.[1];
}
