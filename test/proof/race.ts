/** Tests of races, repeated with new users each time. */
import { test } from 'uvu';

/** OTPD_TEST_RACES sets the number of runs. */
const RUNS = Number(process.env.OTPD_TEST_RACES ?? 100);

/**
 * Returns a function that adds a test for a race; an error names its run.
 *
 * @param share fraction of RUNS
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
