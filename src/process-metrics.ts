/** What a process tells of itself: how late its events are, and its memory. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { elapsedMs } from './db/running-clock.ts';
import { processGauge } from './db/metrics/family.ts';
import type { Family, Source } from './db/metrics/family.ts';

/** How often the delay is measured. */
const RESOLUTION_MS = 20;

const NANOSECONDS = 1e9;

/** Begins to measure the delay of events, each time since it was last asked. */
export function watchProcess(): Source {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  return () => {
    const [p50, p99] = [50, 99].map((percent) => secondsLate(delays.percentile(percent)));
    delays.reset();
    return [
      processGauge('otpd_event_loop_delay_p50_seconds',
        'How late events are, at the median, since this was last asked.', p50!),
      processGauge('otpd_event_loop_delay_p99_seconds',
        'How late the latest hundredth of events is, since this was last asked.', p99!),
      ...memoryFamilies(),
      processGauge('otpd_uptime_seconds', 'Time since the process started.', elapsedMs() / 1000),
    ];
  };
}

/** What is measured is the time between two events that are a fixed time apart. */
function secondsLate(nanoseconds: number): number {
  return Math.max(0, nanoseconds / NANOSECONDS - RESOLUTION_MS / 1000);
}

function memoryFamilies(): Family[] {
  const { rss, heapUsed, heapTotal } = process.memoryUsage();
  return [
    processGauge('otpd_resident_memory_bytes', 'Memory of the process that is in RAM.', rss),
    processGauge('otpd_heap_used_bytes', 'Memory of live and not yet collected objects.', heapUsed),
    processGauge('otpd_heap_size_bytes', 'Memory that is set aside for objects.', heapTotal),
  ];
}
