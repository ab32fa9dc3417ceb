/**
 * What the baselines share: an HTTP server of node:http that reads a JSON body, gives it to one
 * function and writes its answer, and a pool of mysql2. As little as a service can do.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import mysql from 'mysql2/promise';
import type { Pool } from 'mysql2/promise';

/** A request as a baseline sees it. */
export type Call = Readonly<{
  path: string;
  userId: string;
  purpose: string;
  address: string;
  key: string;
}>;

/** Status and body of an answer. */
export type Reply = Readonly<{ status: number; body: object }>;

/** What a baseline is. */
export type Baseline = Readonly<{
  /** Statements that make its tables, run once. */
  schema: readonly string[];
  /** Called once the tables are there. */
  open: (pool: Pool) => Promise<(call: Call) => Promise<Reply>>;
}>;

/** As many waiting requests as the harness ever has connections, and more. */
const QUEUE_MAX = 10_000;

/**
 * Runs a baseline on port `PORT` of loopback, until SIGTERM.
 *
 * @param baseline its database is `DB_NAME` behind `DB_SOCKET`, its pool has `DB_CONNECTIONS`
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
    address: String(request.headers['x-forwarded-for'] ?? ''),
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
