/** Claims a folder for each line of its input, prints the outcome, and waits to be killed. */
import { createInterface } from 'node:readline';
import { claimOwnership } from '../../tools/mysql/owner.ts';

const folder = process.argv[2] ?? '';
console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) {
  try {
    await claimOwnership(folder);
    console.log(`owner ${process.pid}`);
  } catch (error) {
    console.log(`refused ${/process id (\d+)/.exec(String(error))?.[1]}`);
  }
}
