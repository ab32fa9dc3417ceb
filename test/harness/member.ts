/** A host of a list, as a test describes it: it says its role, late, never or wrongly. */
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { DatabaseSettings } from '../../src/db/connection.ts';
import { settingsFor } from './database.ts';
import { errorPacket, greeting, packet } from './stand-in.ts';

const DATABASE = 'of_members';

type MemberRole = Readonly<{
  takesWrites: boolean; hasQuorum: boolean; id: string; members: readonly string[];
}>;

export type Member = {
  readonly settings: DatabaseSettings;
  readonly label: string;
  /** What it says of itself. */
  role: MemberRole;
  /** What it says in sessions that use the database, if that is something else. */
  sessionRole: MemberRole | null;
  /** The error of the table of the members, such as 1142; 0: none. */
  groupError: number;
  /** The error of a login; 0: none. */
  loginError: number;
  /** The questions asked so far: of the role with the group, and without. */
  readonly asked: { group: number; flags: number };
  /** Logins so far, by whether they use the database. */
  readonly logins: { sessions: number; others: number };
  /** Answers nothing until `release`. */
  hold: () => void;
  /** Does so on the connections that are open now. */
  holdOpen: () => void;
  release: () => void;
  /** The open sessions that use the database. */
  sessions: () => number;
  /** Refuses further connections and ends the open ones. */
  refuse: () => Promise<void>;
  listen: () => Promise<void>;
};

function ok(sequence: number): Buffer {
  return packet(sequence, Buffer.from([0, 0, 0, 0, 0, 0, 0]));
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
}

/** A row of texts. */
function rowResult(row: Readonly<Record<string, string>>): Buffer {
  const payloads: Buffer[] = [Buffer.from([Object.keys(row).length])];
  for (const name of Object.keys(row)) {
    payloads.push(Buffer.concat([text('def'), text(''), text(''), text(''), text(name), text(name),
      Buffer.from('0c2d00000100' + '00fd000000' + '0000', 'hex')]));
  }
  const end = Buffer.from([0xfe, 0, 0, 0, 0]);
  payloads.push(end, Buffer.concat(Object.values(row).map(text)), end);
  return Buffer.concat(payloads.map((payload, index) => packet(index + 1, payload)));
}

export function roleOf(
  takesWrites: boolean,
  { id = 'm', members = [], hasQuorum = true }: Partial<MemberRole> = {},
): MemberRole {
  return { takesWrites, hasQuorum, id, members };
}

export async function startMember(role: MemberRole): Promise<Member> {
  const open = new Map<Socket, boolean>();
  let held: (() => void)[] | null = null;
  let isHeld: (socket: Socket) => boolean = () => true;
  const reply = (socket: Socket, answer: () => void): void => {
    if (held === null || !isHeld(socket)) answer();
    else held.push(answer);
  };
  const server = createServer((socket) => {
    let isIn = false;
    socket.on('error', () => {});
    socket.on('close', () => open.delete(socket));
    open.set(socket, false);
    socket.on('data', (chunk: Buffer) => reply(socket, () => {
      if (isIn) return socket.write(answerTo(member, chunk, open.get(socket)!));
      isIn = true;
      if (member.loginError !== 0) return socket.end(errorPacket(2, member.loginError));
      const usesDatabase = chunk.includes(DATABASE);
      open.set(socket, usesDatabase);
      member.logins[usesDatabase ? 'sessions' : 'others'] += 1;
      return socket.write(ok(2));
    }));
    reply(socket, () => socket.write(greeting('8.4.6')));
  });
  let port = 0;
  const listen = async (): Promise<void> => {
    await new Promise<void>((resolve) => { server.listen(port, '127.0.0.1', resolve); });
    port = (server.address() as AddressInfo).port;
  };
  await listen();
  const member: Member = {
    settings: { ...settingsFor(DATABASE, ''), socketPath: null, host: '127.0.0.1', port },
    label: `127.0.0.1:${port}`,
    role,
    sessionRole: null,
    groupError: 0,
    loginError: 0,
    asked: { group: 0, flags: 0 },
    logins: { sessions: 0, others: 0 },
    hold: () => { held = []; isHeld = () => true; },
    holdOpen: () => {
      const sockets = new Set(open.keys());
      held = [];
      isHeld = (socket) => sockets.has(socket);
    },
    release: () => {
      const answers = held ?? [];
      held = null;
      for (const answer of answers) answer();
    },
    sessions: () => [...open.values()].filter(Boolean).length,
    refuse: async () => {
      const closed = new Promise((resolve) => { server.close(resolve); });
      for (const socket of open.keys()) socket.destroy();
      await closed;
    },
    listen,
  };
  return member;
}

function answerTo(member: Member, chunk: Buffer, isSession: boolean): Buffer {
  const sql = chunk.toString('latin1', 5);
  if (!sql.includes('takes_writes')) return ok(1);
  const isAboutGroup = sql.includes('replication_group_members');
  member.asked[isAboutGroup ? 'group' : 'flags'] += 1;
  if (isAboutGroup && member.groupError !== 0) return errorPacket(1, member.groupError);
  const role = (isSession ? member.sessionRole : null) ?? member.role;
  return rowResult({
    server_id: role.id, takes_writes: String(Number(role.takesWrites)),
    members: isAboutGroup ? role.members.join() : '',
    has_quorum: String(Number(!isAboutGroup || role.hasQuorum)),
  });
}
