/**
 * Loaded into the process of a service, by `--import`, that is to be profiled: a first SIGPWR
 * begins to record which functions are running, a second one writes that to PROFILE_FILE.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';

/** Fine enough for a second, and not felt. */
const SAMPLING_INTERVAL_US = 500;

const file = process.env.PROFILE_FILE ?? '';
let session: Session | null = null;

async function begin(): Promise<void> {
  session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: SAMPLING_INTERVAL_US });
  await session.post('Profiler.start');
}

async function end(recording: Session): Promise<void> {
  session = null;
  const { profile } = await recording.post('Profiler.stop');
  recording.disconnect();
  // Whoever waits for the file finds all of it.
  writeFileSync(`${file}.part`, JSON.stringify(profile));
  renameSync(`${file}.part`, file);
}

process.on('SIGPWR', () => void (session === null ? begin() : end(session)));
