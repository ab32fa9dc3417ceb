/**
 * The server of every baseline: node:http with a JSON body, one handler and a pool of mysql2, the
 * least that a service can do.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import mysql from 'mysql2/promise';
import type { Pool } from 'mysql2/promise';

/** A request, as a baseline reads it. */
export type Call = Readonly<{
  path: string;
  userId: string;
  purpose: string;
  clientIp: string;
  key: string;
}>;

export type Reply = Readonly<{ status: number; body: object }>;

/** What distinguishes a baseline. */
export type Baseline = Readonly<{
  /** CREATE TABLE statements, run at the start. */
  schema: readonly string[];
  /** Creates the handler once the tables exist. */
  open: (pool: Pool) => Promise<(call: Call) => Promise<Reply>>;
}>;

/** Exceeds the connections of any load. */
const QUEUE_MAX = 10_000;

/**
 * Serves a baseline on 127.0.0.1 and `PORT` until SIGTERM. `DB_SOCKET` and `DB_NAME` name its
 * database, `DB_CONNECTIONS` its pool size.
 */
export async function runBaseline(baseline: Baseline): Promise<void> {
  const { DB_SOCKET = '', DB_NAME = '', DB_CONNECTIONS = '32', PORT = '0' } = process.env;
  const pool = mysql.createPool({
    socketPath: DB_SOCKET,
    user: 'root',
    database: DB_NAME,
    connectionLimit: Number(DB_CONNECTIONS),
    queueLimit: QUEUE_MAX,
    timezone: 'Z',
  });
  for (const statement of baseline.schema) await pool.query(statement);
  const handle = await baseline.open(pool);
  const server = createServer((request, response) => void answer(request, response, handle));
  server.listen(Number(PORT), '127.0.0.1');
  process.once('SIGTERM', () => process.exit(0));
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handle: (call: Call) => Promise<Reply>,
): Promise<void> {
  try {
    const { status, body } = await handle(await readCall(request));
    write(response, status, JSON.stringify(body));
  } catch (error) {
    process.stderr.write(`${String(error)}\n`);
    write(response, 500, '{"error":"internal"}');
  }
}

async function readCall(request: IncomingMessage): Promise<Call> {
  const body = JSON.parse(await readBody(request)) as { user_id: string; purpose: string };
  return {
    path: request.url ?? '',
    userId: body.user_id,
    purpose: body.purpose,
    clientIp: String(request.headers['x-forwarded-for'] ?? ''),
    key: String(request.headers['idempotency-key'] ?? ''),
  };
}

function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    request.setEncoding('utf8');
    request.on('data', (part: string) => { text += part; });
    request.on('end', () => resolve(text));
    request.on('error', reject);
  });
}

function write(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(body);
}
