/** Races that are run again and again, each time by newcomers. */
import { test } from 'uvu';

/** OTPD_TEST_RACES sets how often each is run. */
const RUNS = Number(process.env.OTPD_TEST_RACES ?? 100);

/**
 * Makes a function that adds a test for a race. It says which run went wrong.
 *
 * @param share how often it is run, of the times that most are
 */
export function racesOf(share: number): (name: string, work: () => Promise<void>) => void {
  const runs = Math.ceil(RUNS * share);
  return (name, work) => {
    test(`${name}, ${runs} times`, async () => {
      for (let run = 1; run <= runs; run += 1) {
        await work().catch((error: Error) => {
          error.message = `run ${run}: ${error.message}`;
          throw error;
        });
      }
    });
  };
}
