/**
 * npm run hostile: good requests alone, and beside hostile clients, by turns. Writes
 * bench/results/hostile.md and .json. See bench/README.md.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { atLimitIn } from './at-limit.ts';
import { Attacker, ATTACKS } from './attacker.ts';
import { build, RESULTS } from './build.ts';
import { say, stopSignal } from './command.ts';
import { openLab } from './lab.ts';
import type { Lab, Measured } from './lab.ts';
import { describeMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { freshRequests, refusedRequest, writeRequests } from './requests.ts';
import { median } from './summary.ts';
import { markdown } from './table.ts';
import type { Target } from './target.ts';

/** Of each attack, alone and beside it; --rounds N. */
const ROUNDS = 5;
const SECONDS = 3;
const CONNECTIONS = 64;
const RATE_MAX = 20_000;
const WARM_SECONDS = 3;
const ATTACK_REQUESTS = 20_000;

/** Issue 5: good traffic keeps at least so much of its throughput. */
const KEPT_GOAL = 0.8;

/** One attack in one round. */
type Turn = Readonly<{
  kind: string;
  round: number;
  alone: Measured;
  beside: Measured;
  /** Throughput beside over that alone. */
  kept: number;
  /** CPU of otpd and MySQL for a good request, alone over beside: what the attack costs them. */
  cheapness: number;
  /** Of the attackers: CPU in parts of one core, sockets opened and answers read a second. */
  cpuShare: number;
  openedPerSecond: number;
  answersPerSecond: number;
}>;

function good(target: Target, seconds: number) {
  const requests = freshRequests(seconds, RATE_MAX);
  return { target, connections: CONNECTIONS, seconds, requests };
}

const costOf = ({ nodeCpuUs, mysqldCpuUs }: Measured): number => nodeCpuUs + mysqldCpuUs;

async function takeTurn(
  lab: Lab,
  target: Target,
  kind: string,
  { round, file }: { round: number; file: string },
): Promise<Turn> {
  const alone = await lab.measure(good(target, SECONDS));
  const order = good(target, SECONDS);
  const beganAt = performance.now();
  const attacker = await Attacker.start(target.port, kind, file);
  const [cpuBefore, from] = [await attacker.cpuUs(), performance.now()];
  const beside = await lab.measure(order);
  const [cpuAfter, to] = [await attacker.cpuUs(), performance.now()];
  const { opened, answers } = await attacker.stop();
  const seconds = (performance.now() - beganAt) / 1000;
  return {
    kind, round, alone, beside,
    kept: beside.perSecond / alone.perSecond,
    cheapness: costOf(alone) / costOf(beside),
    cpuShare: (cpuAfter - cpuBefore) / ((to - from) * 1000),
    openedPerSecond: opened / seconds,
    answersPerSecond: answers / seconds,
  };
}

async function measureAll(lab: Lab, rounds: number): Promise<Turn[]> {
  const target = await lab.target('otpd');
  const file = join(lab.server.folder, 'attack');
  const atLimit = await atLimitIn(lab, target);
  writeRequests(file, Array.from({ length: ATTACK_REQUESTS }, (_, index) =>
    refusedRequest(atLimit, index)));
  await lab.send(good(target, WARM_SECONDS));
  const turns: Turn[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const kind of ATTACKS.keys()) {
      const turn = await takeTurn(lab, target, kind, { round, file });
      turns.push(turn);
      say(`${kind} #${round}: kept ${turn.kept.toFixed(2)} of ` +
        `${turn.alone.perSecond.toFixed(0)}/s, by CPU ${turn.cheapness.toFixed(2)}, ` +
        `attackers' CPU ${turn.cpuShare.toFixed(2)}`);
    }
  }
  return turns;
}

const HEAD = ['beside', 'kept', 'of each round', 'alone/s', 'beside/s', 'kept, by CPU',
  'CPU µs a good request, alone', 'beside', 'p99 ms, alone', 'beside', '5xx and broken',
  'CPU of the attackers', 'sockets/s', 'answers/s to them'];

function rowOf(kind: string, turns: readonly Turn[]): string[] {
  const own = turns.filter((turn) => turn.kind === kind);
  const of = (pick: (turn: Turn) => number, digits = 0): string =>
    median(own.map(pick)).toFixed(digits);
  const failed = own.reduce((sum, { beside }) =>
    sum + beside.answers5xx + beside.socketErrors, 0);
  return [
    ATTACKS.get(kind)!, of(({ kept }) => kept, 2),
    own.map(({ kept }) => kept.toFixed(2)).join(' '),
    of(({ alone }) => alone.perSecond), of(({ beside }) => beside.perSecond),
    of(({ cheapness }) => cheapness, 2),
    of(({ alone }) => costOf(alone)), of(({ beside }) => costOf(beside)),
    of(({ alone }) => alone.p99Us / 1000, 1), of(({ beside }) => beside.p99Us / 1000, 1),
    String(failed), of(({ cpuShare }) => cpuShare, 2),
    of(({ openedPerSecond }) => openedPerSecond),
    of(({ answersPerSecond }) => answersPerSecond),
  ];
}

function composePage(machine: Machine, rounds: number, rows: readonly string[][]): string {
  const { cores, cpu, system, node, mysql } = machine;
  return `# Good requests beside hostile clients

${cores} cores (${cpu}), ${system}; Node ${node}, MySQL ${mysql}. MySQL, otpd, the load and the
attackers share the cores. ${rounds} rounds of ${SECONDS} s: ${CONNECTIONS} good connections that
ask for codes, alone and beside each attack by turns; medians over the rounds. The goal is to keep
${KEPT_GOAL}. CPU of the attackers is in parts of one core, and is taken from the good requests too.

${markdown(HEAD, rows)}`;
}

async function main(signal: AbortSignal): Promise<number> {
  const { values } = parseArgs({ options: { rounds: { type: 'string' } } });
  const rounds = Number(values.rounds ?? ROUNDS);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds N: at least 1');
  await build();
  const lab = await openLab({ poolSize: 32, load: null, beforeFolder: null }, say, signal);
  try {
    const turns = await measureAll(lab, rounds);
    const rows = [...ATTACKS.keys()].map((kind) => rowOf(kind, turns));
    writeFileSync(join(RESULTS, 'hostile.md'), composePage(describeMachine(lab), rounds, rows));
    writeFileSync(join(RESULTS, 'hostile.json'), `${JSON.stringify(turns, null, 1)}\n`);
    const missed = rows.filter(([, kept]) => Number(kept) < KEPT_GOAL);
    for (const row of rows) say(`${missed.includes(row) ? 'MISS' : 'met '} ${row[1]} ${row[0]}`);
    return missed.length === 0 ? 0 : 1;
  } finally {
    await lab.close();
  }
}

process.exitCode = await main(stopSignal());
