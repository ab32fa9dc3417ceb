/** Services on one database, as processes would be, with channels that answer as told. */
import { addSeconds, formatInstant, parseInstant } from '../../../src/db/instant.ts';
import type { ConnectionPool } from '../../../src/db/pool.ts';
import type {
  Channel, ChannelName, Message, SendResult,
} from '../../../src/otp/channels/channel.ts';
import type { Secrets } from '../../../src/otp/crypto/secrets.ts';
import type { Delivery } from '../../../src/otp/delivery/delivery.ts';
import type { DeliveryEvent } from '../../../src/otp/delivery/events.ts';
import type { RequestOutcome, StatusOutcome } from '../../../src/otp/outcomes.ts';
import { createPolicies } from '../../../src/otp/policy/policy.ts';
import { createOtpService } from '../../../src/otp/service.ts';
import type { OtpService } from '../../../src/otp/service.ts';
import { createTestDatabase } from '../../harness/database.ts';
import type { TestDatabase } from '../../harness/database.ts';
import { channelOf, createTestDelivery } from '../../harness/delivery.ts';
import { newSecretsText, newSweeper, secretsOf } from '../../harness/service.ts';
import { eventually } from '../../harness/waiting.ts';

export const ACCEPTED: SendResult = { kind: 'accepted' };
export const RETRY: SendResult = { kind: 'retry', reason: 'status 503', afterSeconds: null };
export const REFUSED: SendResult = { kind: 'refused', reason: 'status 400' };

/** A channel that answers what its script says next, and its last word from then on. */
export type ScriptedChannel = Channel & Readonly<{ sent: Message[] }>;

/** Makes one. A script of functions may wait. */
export function scripted(
  name: ChannelName,
  ...script: (SendResult | (() => Promise<SendResult>))[]
): ScriptedChannel {
  const sent: Message[] = [];
  const send = async (message: Message): Promise<SendResult> => {
    sent.push(message);
    const next = script.length > 1 ? script.shift()! : script[0]!;
    return typeof next === 'function' ? next() : next;
  };
  return { ...channelOf(send, { name }), sent };
}

/** What stands for one process. */
export type Process = Readonly<{
  service: OtpService;
  delivery: Delivery;
  notes: DeliveryEvent[];
  stop: () => Promise<void>;
}>;

/** The time at which a fixture begins. */
export const START = parseInstant('2026-01-05 08:00:00.000000');

/** One database, and what stands for processes on it. */
export class DeliveryFixture {
  readonly database: TestDatabase;
  readonly secrets: Secrets = secretsOf(newSecretsText());
  readonly #processes: Process[] = [];
  #count = 0;

  constructor(database: TestDatabase) {
    this.database = database;
  }

  /** Makes one with an empty database, whose clock stands still. */
  static async open(): Promise<DeliveryFixture> {
    const fixture = new DeliveryFixture(await createTestDatabase());
    fixture.setClock(0);
    return fixture;
  }

  /** Moves the database's clock to so many seconds after the beginning. */
  setClock(seconds: number): void {
    this.database.clock.set(formatInstant(addSeconds(START, seconds)));
  }

  /** Starts what stands for a process. It looks for what others left once its delivery starts. */
  process(
    channels: readonly Channel[],
    { pool = this.database.pool, secrets = this.secrets }: { pool?: ConnectionPool;
      secrets?: Secrets } = {},
  ): Process {
    const policies = createPolicies();
    const notes: DeliveryEvent[] = [];
    const note = (one: DeliveryEvent): void => { notes.push(one); };
    const delivery = createTestDelivery({ pool, policies, secrets, channels, onEvent: note });
    const deps = { pool: this.database.pool, policies, secrets, delivery };
    const service = createOtpService({ ...deps, sweeper: newSweeper() });
    const process = { service, delivery, notes, stop: () => delivery.stop(2000) };
    this.#processes.push(process);
    return process;
  }

  /** Issues a code, to a new user unless one is named. */
  async issue(
    { service }: Process,
    userId = this.newName('u'),
    purpose = 'login',
    clientIp = '10.0.0.1',
  ): Promise<Extract<RequestOutcome, { kind: 'issued' }>> {
    const outcome = await service.request({
      userId, purpose, clientIp, key: this.newName('k'), apiClient: null,
      acceptLanguage: '',
    }, () => true);
    if (outcome.kind !== 'issued') throw new Error(`not issued: ${outcome.kind}`);
    return outcome;
  }

  /** A name that was not used yet. */
  newName(prefix: string): string {
    this.#count += 1;
    return `${prefix}${this.#count}`;
  }

  /** What is told of a code. */
  async statusOf({ service }: Process, otpId: string): Promise<StatusOutcome> {
    return service.status(otpId, () => true);
  }

  /** Waits, bounded, until a code has a status and, if given, a channel. */
  async untilStatus(process: Process, otpId: string, status: string, channel?: string) {
    await eventually(`the code is ${status}`, async () => {
      const told = await this.statusOf(process, otpId);
      return told.kind === 'known' && told.status === status
        && (channel === undefined || told.channel === channel);
    });
  }

  /** How many messages are in the outbox. */
  async unsent(): Promise<number> {
    const [row] = await this.database.query('SELECT COUNT(*) AS n FROM outbox');
    return row?.n as number;
  }

  /** Waits, bounded, until the outbox is empty. */
  async untilEmpty(): Promise<void> {
    await eventually('the outbox is empty', async () => (await this.unsent()) === 0);
  }

  /** Ends all. */
  async close(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop()));
    this.database.close();
  }
}
