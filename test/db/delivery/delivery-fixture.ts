/** Several services on one database, as several processes, with scripted channels. */
import { addSeconds, formatInstant, parseInstant } from '../../../src/db/instant.ts';
import type { ConnectionPool } from '../../../src/db/pool.ts';
import type {
  Channel, ChannelName, Message, SendResult,
} from '../../../src/otp/channels/channel.ts';
import type { Secrets } from '../../../src/otp/crypto/secrets.ts';
import type { Delivery } from '../../../src/otp/delivery/delivery.ts';
import type { DeliveryEvent } from '../../../src/otp/delivery/events.ts';
import type { OtpRequest, RequestOutcome, StatusOutcome } from '../../../src/otp/outcomes.ts';
import { createPolicies } from '../../../src/otp/policy/policy.ts';
import { createOtpService } from '../../../src/otp/service.ts';
import type { OtpService } from '../../../src/otp/service.ts';
import { readUserReport } from '../../../src/otp/user-report.ts';
import { createTestDatabase } from '../../harness/database.ts';
import type { TestDatabase } from '../../harness/database.ts';
import { channelOf, createTestDelivery } from '../../harness/delivery.ts';
import { newSecretsText, newSweeper, secretsOf } from '../../harness/service.ts';
import { eventually } from '../../harness/waiting.ts';

export const ACCEPTED: SendResult = { kind: 'accepted' };
export const RETRY: SendResult = { kind: 'retry', reason: 'status 503', afterSeconds: null };
export const DENIED: SendResult = { kind: 'denied', reason: 'status 402', afterSeconds: null };
export const REFUSED: SendResult = { kind: 'refused', reason: 'status 400' };

/** A channel that returns the results of its script in order and then repeats the last one. */
export type ScriptedChannel = Channel & Readonly<{ sent: Message[] }>;

/** A function in the script may return its result later. */
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

/** A service with its delivery, in place of a process. */
export type Process = Readonly<{
  service: OtpService;
  delivery: Delivery;
  events: DeliveryEvent[];
  stop: () => Promise<void>;
}>;

/** The time of the database when a fixture opens. */
export const START = parseInstant('2026-01-05 08:00:00.000000');

/** A database and the services that run on it. */
export class DeliveryFixture {
  readonly database: TestDatabase;
  readonly secrets: Secrets = secretsOf(newSecretsText());
  readonly #processes: Process[] = [];
  #count = 0;

  constructor(database: TestDatabase) {
    this.database = database;
  }

  /** Creates an empty database with a stopped clock. */
  static async open(): Promise<DeliveryFixture> {
    const fixture = new DeliveryFixture(await createTestDatabase());
    fixture.setClock(0);
    return fixture;
  }

  /** Sets the clock of the database to START plus these seconds. */
  setClock(seconds: number): void {
    this.database.clock.set(formatInstant(addSeconds(START, seconds)));
  }

  /** Creates a service. It reclaims messages after its delivery was started. */
  process(
    channels: readonly Channel[],
    { pool = this.database.pool, secrets = this.secrets }: { pool?: ConnectionPool;
      secrets?: Secrets } = {},
  ): Process {
    const policies = createPolicies();
    const events: DeliveryEvent[] = [];
    const onEvent = (event: DeliveryEvent): void => { events.push(event); };
    const delivery = createTestDelivery({ pool, policies, secrets, channels, onEvent });
    const deps = { pool: this.database.pool, policies, secrets, delivery };
    const service = createOtpService({ ...deps, sweeper: newSweeper(deps) });
    const process = { service, delivery, events, stop: () => delivery.stop(2000) };
    this.#processes.push(process);
    return process;
  }

  /** Requests a code, for a new user by default. */
  async issue(
    { service }: Process,
    userId = this.newName('u'),
    purpose = 'login',
    clientIp = '10.0.0.1',
    options: Pick<OtpRequest, 'to' | 'channel' | 'locale'> = {},
  ): Promise<Extract<RequestOutcome, { kind: 'issued' }>> {
    const outcome = await service.request({
      userId, purpose, clientIp, clientNet48: null, key: this.newName('k'), apiClient: null,
      acceptLanguage: '', ...options,
    }, () => true);
    if (outcome.kind !== 'issued') throw new Error(`not issued: ${outcome.kind}`);
    return outcome;
  }

  newName(prefix: string): string {
    this.#count += 1;
    return `${prefix}${this.#count}`;
  }

  async statusOf({ service }: Process, otpId: string): Promise<StatusOutcome> {
    return service.status(otpId, () => true);
  }

  /** The last failure of the newest login code of a user, as an operator sees it. */
  async failureOf(userId: string): Promise<string | null> {
    const deps = { pool: this.database.pool, policies: createPolicies(), secrets: this.secrets };
    const failure = (await readUserReport(deps, userId))?.pairs[0]?.lastCode?.failure ?? null;
    return failure === null ? null : `${failure.channel}: ${failure.reason}`;
  }

  async untilFailure(userId: string, expected: string): Promise<void> {
    await eventually(`the last failure of ${userId} is ${expected}`, async () =>
      await this.failureOf(userId) === expected);
  }

  /** Waits until an OTP has this status and, if given, this channel. */
  async untilStatus(process: Process, otpId: string, status: string, channel?: string) {
    await eventually(`the code is ${status}`, async () => {
      const outcome = await this.statusOf(process, otpId);
      return outcome.kind === 'known' && outcome.status === status
        && (channel === undefined || outcome.channel === channel);
    });
  }

  /** The number of rows in the outbox. */
  async unsent(): Promise<number> {
    const [row] = await this.database.query('SELECT COUNT(*) AS n FROM outbox');
    return row?.n as number;
  }

  async untilEmpty(): Promise<void> {
    await eventually('the outbox is empty', async () => (await this.unsent()) === 0);
  }

  async close(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop()));
    this.database.close();
  }
}
