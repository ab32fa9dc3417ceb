/**
 * npm run failover: a real Group Replication group of three, two otpd and a steady load; each event
 * happens in a fresh stretch of load. Writes bench/results/failover.*; exits with 1 when a goal is
 * missed.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { print, RESULTS, ROOT, stopSignal } from '../../bench/build.ts';
import { describeMachine } from '../../bench/machine.ts';
import { obtainMysqld } from '../../tools/mysql/fetch/obtain.ts';
import { readMysqlSettings } from '../../tools/mysql/settings.ts';
import { closeClient } from '../harness/client.ts';
import { Provider } from '../proof/provider.ts';
import { EVENTS } from './events.ts';
import { Failover } from './failover.ts';
import { ADVISED, startGroup } from './group.ts';
import {
  LOOPBACK, openNamespaces, ownNamespace, runInNamespace, whyNoNamespace,
} from './network.ts';
import type { Network } from './network.ts';
import { readOptions } from './options.ts';
import type { Options } from './options.ts';
import { composeChart, composeHead, composePage, composeTable, missedGoals } from './report.ts';
import type { Findings, NotRun, Outcome } from './report.ts';
import { startService } from './service.ts';

const IMAGE = '![Good answers per second and the events](failover.svg)';

const PAGE = join(ROOT, 'docs/scale.md');

/** The part of the page that a whole run replaces. */
const TABLE = /(?<=<!-- table: written by npm run failover -->\n)[^]*(?=<!-- end of table -->)/;

/** Runs the events on a group that it starts and ends. */
async function measure(
  options: Options,
  network: Network,
  signal: AbortSignal,
): Promise<Findings> {
  const closing: (() => Promise<void>)[] = [];
  try {
    const settings = { ...ADVISED, ...options.memberSettings };
    const group = await startGroup(network, settings, print, signal);
    closing.push(group.stop);
    const provider = await Provider.start();
    closing.push(() => provider.close());
    print('The group has three members; starting otpd.');
    const service = await startService(group, provider, options.environment, signal);
    closing.push(service.stop);
    const { seconds } = options;
    const failover = new Failover({ seconds, network, group, service, provider, signal });
    const outcomes: Outcome[] = [];
    for (const name of options.events) {
      if (name === 'partition' && network.cut === null) continue;
      const outcome = await failover.observe(name);
      outcomes.push(outcome);
      print(`${EVENTS[name].title}: gap ${(outcome.gapMs / 1000).toFixed(1)} s, ` +
        `${outcome.failed} failed, ${outcome.lost} lost, ${outcome.wrongCount} wrong; ` +
        `/readyz ${outcome.probes.join(' / ')}`);
    }
    const server = { version: group.version, folder: group.folder };
    const machine = { ...describeMachine({ server, program: 'own' }), load: 'test/failover' };
    const changed = { ...settings, ...options.environment };
    const [, loadAverage = 0] = loadavg();
    return { machine, loadAverage, settings: changed, outcomes, notRun: [] };
  } finally {
    closeClient();
    for (const close of closing.reverse()) await close();
  }
}

function writeResults(found: Findings, isWhole: boolean): void {
  mkdirSync(RESULTS, { recursive: true });
  const chart = composeChart(found);
  writeFileSync(join(RESULTS, 'failover.json'), `${JSON.stringify(found)}\n`);
  writeFileSync(join(RESULTS, 'failover.md'), composePage(found));
  writeFileSync(join(RESULTS, 'failover.svg'), chart);
  print(`\n${composeTable(found)}`);
  if (!isWhole || found.notRun.length > 0) return;
  writeFileSync(join(ROOT, 'docs/failover.svg'), chart);
  const part = `\n${composeHead(found)}\n\n${IMAGE}\n\n${composeTable(found)}\n`;
  writeFileSync(PAGE, readFileSync(PAGE, 'utf8').replace(TABLE, () => part));
  print('written: docs/failover.svg, the table of docs/scale.md');
}

async function main(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  const reason = options.outside === null ? whyNoNamespace() : null;
  if (options.outside === null && reason === null) {
    // There is no way out of the namespace to fetch MySQL.
    await obtainMysqld({ ...readMysqlSettings(process.env), print });
    const own = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
    return runInNamespace([...own, '--outside', ownNamespace()]);
  }
  if (options.outside === ownNamespace()) throw new Error('this is not a namespace of its own');
  const signal = stopSignal();
  const network = reason === null ? await openNamespaces() : LOOPBACK;
  try {
    const notRun: NotRun[] = options.events.filter((name) => name === 'partition')
      .flatMap((name) => (reason === null ? [] : [{ name, reason }]));
    const found = { ...await measure(options, network, signal), notRun };
    writeResults(found, options.isWhole);
    const missed = found.outcomes.flatMap((one) =>
      missedGoals(one).map((text) => `${EVENTS[one.name].title}: ${text}`));
    for (const text of missed) print(`MISSED ${text}`);
    for (const { name } of notRun) print(`NOT RUN ${EVENTS[name].title}: ${reason}`);
    return missed.length === 0 && found.outcomes.length > 0 ? 0 : 1;
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    await network.close();
  }
}

process.exitCode = await main(process.argv.slice(2)).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  return 1;
});
