/** What one list costs by its length: lists one after the other, with no HTTP and no load. */
import { newInputs, openIssuer } from '../codes.ts';
import type { Lab } from '../lab.ts';
import { median } from '../summary.ts';
import type { Target } from '../target.ts';
import { readUsage } from '../usage.ts';

/** One length; what a list costs, medians over the rounds. */
export type ListCost = Readonly<{ size: number; wallMs: number; nodeUs: number; mysqldUs: number }>;

/** Lengths, with as many lists of each in a round. */
const SIZES: readonly (readonly [size: number, lists: number])[] =
  [[1, 400], [8, 300], [16, 300], [32, 300], [64, 200], [128, 100]];
const ROUNDS = 3;

/** The first lists are the compiler's. */
const WARM_LISTS = 800;
const WARM_SIZE = 16;

/** Issues codes in the database of a target that nobody else asks meanwhile. */
export async function measureLists(lab: Lab, target: Target): Promise<ListCost[]> {
  const issuer = openIssuer(target, []);
  const spend = async (size: number, lists: number): Promise<ListCost> => {
    const inputs = Array.from({ length: lists }, () => newInputs(size));
    const [mysqldBefore, nodeBefore, from] =
      [await readUsage(lab.server.processId), process.cpuUsage(), performance.now()];
    for (const list of inputs) await issuer.issue(list);
    const [wallMs, node] = [performance.now() - from, process.cpuUsage(nodeBefore)];
    const mysqldAfter = await readUsage(lab.server.processId);
    return {
      size, wallMs: wallMs / lists, nodeUs: (node.user + node.system) / lists,
      mysqldUs: (mysqldAfter.cpuUs - mysqldBefore.cpuUs) / lists,
    };
  };
  await spend(WARM_SIZE, WARM_LISTS);
  const costs: ListCost[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [size, lists] of SIZES) costs.push(await spend(size, lists));
  }
  await issuer.close();
  return SIZES.map(([size]) => {
    const own = costs.filter((cost) => cost.size === size);
    const of = (pick: (cost: ListCost) => number): number => median(own.map(pick));
    return {
      size, wallMs: of(({ wallMs }) => wallMs), nodeUs: of(({ nodeUs }) => nodeUs),
      mysqldUs: of(({ mysqldUs }) => mysqldUs),
    };
  });
}

/** The straight line through costs (least squares): what a list costs, and each code of it. */
export function lineThrough(
  costs: readonly ListCost[],
  pick: (cost: ListCost) => number,
): { list: number; code: number } {
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const meanSize = mean(costs.map(({ size }) => size));
  const meanCost = mean(costs.map(pick));
  const code = mean(costs.map((cost) => (cost.size - meanSize) * (pick(cost) - meanCost)))
    / mean(costs.map(({ size }) => (size - meanSize) ** 2));
  return { list: meanCost - code * meanSize, code };
}
