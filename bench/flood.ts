/**
 * Refusals under load: good requests alone, then the same with a flood of refused ones at four
 * times their load, that is on four times as many connections.
 */
import { atLimitIn } from './at-limit.ts';
import type { Lab } from './lab.ts';
import { freshRequests, refusedRequest } from './requests.ts';
import type { Sample } from './rounds.ts';

/** How many connections flood for each that is good (issue 3, goal 3). */
export const FLOOD_FACTOR = 4;

const GOOD_RATE_MAX = 20_000;
const FLOOD_RATE_MAX = 40_000;

/** The flood begins before the good requests are measured and ends after them. */
const FLOOD_MARGIN_SECONDS = 1;

type FloodOrder = Readonly<{
  connections: number;
  seconds: number;
  warmUpSeconds: number;
  round: number;
}>;

/** Measures otpd twice; both samples count the good requests only. */
export async function measureFlood(
  lab: Lab,
  { connections, seconds, warmUpSeconds, round }: FloodOrder,
  keep: (sample: Sample) => void,
): Promise<void> {
  const target = await lab.target('otpd');
  const atLimit = await atLimitIn(lab, target);
  const good = (time: number) => ({
    target, connections, seconds: time,
    requests: freshRequests(time, GOOD_RATE_MAX),
  });
  const place = { target: 'otpd', connections, round } as const;
  await lab.send(good(warmUpSeconds));
  keep({ workload: 'undisturbed', ...place, ...await lab.measure(good(seconds)) });

  const floodSeconds = seconds + warmUpSeconds + FLOOD_MARGIN_SECONDS;
  const flood = lab.send({
    target,
    connections: connections * FLOOD_FACTOR,
    seconds: floodSeconds,
    requests: Array.from({ length: FLOOD_RATE_MAX * floodSeconds }, (_, index) =>
      refusedRequest(atLimit, index)),
  });
  await lab.send(good(warmUpSeconds));
  const flooded = await lab.measure(good(seconds));
  const { requests, seconds: flooding, answers5xx, socketErrors } = await flood;
  keep({
    workload: 'flooded',
    ...place,
    ...flooded,
    floodPerSecond: requests / flooding,
    answers5xx: flooded.answers5xx + answers5xx,
    socketErrors: flooded.socketErrors + socketErrors,
  });
}
