/**
 * Finds connections that were lost silently, for example because a router has dropped their state.
 * They look like connections that wait for a lock or a commit. The process list of the server, read
 * on another connection, tells them apart: the server is not working on a statement of theirs.
 */
import { Deadline, monotonicMs } from './clock.ts';
import type { Connection } from './connection.ts';

/** Much longer than a round trip; a second attempt still fits into the time of a request. */
const STALLED_AFTER_MS = 400;
const TICK_MS = 100;
const CHECK_TIMEOUT_MS = 600;

type Lender = Readonly<{
  busy: ReadonlySet<Connection>;
  /** Lends a connection on which the server has answered since, or a new one. */
  borrow: (sinceMs: number) => Promise<Connection>;
  giveBack: (connection: Connection) => void;
  /**
   * Removes the idle connections on which the server has not answered since: whatever has cut one
   * connection may have cut them all.
   */
  distrust: (sinceMs: number) => readonly Connection[];
}>;

/** A connection, and when it sent the statement that has no answer. */
type Stalled = Readonly<{ connection: Connection; sentAtMs: number }>;

/** Looks at the connections in use; its timer runs only while there are any. */
export class LostConnections {
  readonly #lender: Lender;
  /** When the statement was sent on which the server was seen to be working. */
  readonly #workedOn = new WeakMap<Connection, number>();
  #timer: NodeJS.Timeout | null = null;
  #isChecking = false;
  #checkedAtMs = -Infinity;

  constructor(lender: Lender) {
    this.#lender = lender;
  }

  /** Starts watching, unless that is under way. */
  watch(): void {
    this.#timer ??= setTimeout(() => this.#tick(), TICK_MS).unref();
  }

  /** Notes that a connection was given up, and distrusts others if it may have been lost. */
  onGivenUp(connection: Connection): void {
    const { sentAtMs } = connection.activity;
    if (this.#workedOn.get(connection) !== sentAtMs) this.#lender.distrust(sentAtMs);
  }

  #tick(): void {
    this.#timer = null;
    const now = monotonicMs();
    if (!this.#isChecking && now - this.#checkedAtMs >= STALLED_AFTER_MS) {
      const stalled = [...this.#lender.busy].filter((connection) => isStalled(connection, now));
      if (stalled.length > 0) void this.#check(stalled);
    }
    if (this.#lender.busy.size > 0) this.watch();
  }

  /** Destroys the lost ones of the connections; decides nothing when the server does not answer. */
  async #check(connections: readonly Connection[]): Promise<void> {
    this.#isChecking = true;
    const stalled = connections.map((connection): Stalled =>
      ({ connection, sentAtMs: connection.activity.sentAtMs }));
    let checker: Connection | null = null;
    let deadline: Deadline | null = null;
    try {
      checker = await this.#lender.borrow(Math.max(...stalled.map(({ sentAtMs }) => sentAtMs)));
      deadline = new Deadline(CHECK_TIMEOUT_MS);
      deadline.onEnd(checker.destroy);
      await this.#judge(checker, stalled);
    } catch {
      // Without an answer the requests end at their deadlines.
      checker?.destroy();
    }
    deadline?.clear();
    if (checker !== null) this.#lender.giveBack(checker);
    this.#isChecking = false;
    this.#checkedAtMs = monotonicMs();
  }

  async #judge(checker: Connection, stalled: readonly Stalled[]): Promise<void> {
    const commands = await readCommands(checker);
    // A proxy that pools connections shows ids of its own.
    if (!commands.has(checker.activity.threadId)) return;
    const lost: Connection[] = [];
    for (const { connection, connection: { activity }, sentAtMs } of stalled) {
      if (!activity.isWaiting || activity.sentAtMs !== sentAtMs) continue;
      const isIdle = (commands.get(activity.threadId) ?? 'Sleep') === 'Sleep';
      if (isIdle) lost.push(connection);
      else this.#workedOn.set(connection, sentAtMs);
    }
    if (lost.length === 0) return;
    const idle = this.#lender.distrust(Math.max(...lost.map(({ activity }) => activity.sentAtMs)));
    // The server has not noticed the loss: they hold locks, and count as connections.
    for (const { activity: { threadId } } of [...lost, ...idle]) {
      if (!commands.has(threadId)) continue;
      await checker.run('connection.kill', `KILL ${threadId}`, []).catch(() => {});
    }
    for (const connection of lost) connection.destroy();
  }
}

function isStalled({ activity }: Connection, now: number): boolean {
  return activity.isWaiting && now - activity.sentAtMs >= STALLED_AFTER_MS;
}

/** Every account sees its own connections; the command `Sleep` is nothing. */
const READ_COMMANDS_SQL = `SELECT id, command FROM information_schema.processlist
  WHERE user = SUBSTRING_INDEX(USER(), '@', 1) AND db <=> DATABASE()`;

/** What the server does on each connection of this account; ends no transaction, as readRole. */
async function readCommands(connection: Connection): Promise<ReadonlyMap<number, string>> {
  const rows = await connection.run('connection.commands', READ_COMMANDS_SQL, []);
  return new Map(rows.map(({ id, command }) => [Number(id), String(command)]));
}
