/** The HTTP server: node:http with its limits, and where its events go. */
import { createServer as createPlainServer } from 'node:http';
import type { IncomingMessage, Server as PlainServer, ServerResponse } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { RequestLog } from './access-log.ts';
import { accept, abandon, openHttpConnection, closeWith, refuseBytes } from './connection.ts';
import type { RequestError, ServerState } from './connection.ts';
import type { ApiKeys } from './input/api-keys.ts';
import type { TrustedProxies } from './input/client-ip.ts';
import { closingErrorResponse } from './response.ts';
import type { ErrorCode } from './response.ts';
import type { Routes } from './router.ts';
import { close, retire } from './shutdown.ts';
import type { OpenConnections } from './shutdown.ts';
import { PROTOCOLS, secureOptions, watchHandshakes } from './tls.ts';
import type { Certificate } from './tls.ts';

/** What the server serves, and whom it tells of errors. */
type HttpOptions = Readonly<{
  routes: Routes;
  trustedProxies: TrustedProxies;
  /** Who may call; null: anybody. */
  apiKeys: ApiKeys | null;
  /** Without one the server speaks plain HTTP. */
  certificate?: Certificate | null;
  /** Errors of the listener, and those behind a 500 or 503 when there is no log. */
  onError: (fault: RequestError) => void;
  /** Told of every request that has ended, with the error behind it. */
  log?: RequestLog;
}>;

/** A server that can be started and stopped once. */
export type HttpServer = Readonly<{
  /** Resolves with the port when connections are accepted; rejects when it cannot listen. */
  listen: (port: number, host: string) => Promise<{ port: number }>;
  /**
   * Stops accepting, and answers what comes on the connections that there are, with
   * Connection: close. Resolves when the last is gone, at the bound in milliseconds at the latest.
   */
  retire: (timeoutMs: number) => Promise<void>;
  /**
   * Stops accepting, answers what is in flight with Connection: close, resolves when the last
   * socket is gone or, at the bound in milliseconds, has been destroyed: with whether every request
   * that had come as a whole was answered.
   */
  close: (timeoutMs: number) => Promise<boolean>;
  /**
   * Puts another certificate in force for the connections to come, on a server that has one.
   *
   * @throws Error when it cannot be used; the old one stays in force
   */
  setCertificate: (certificate: Certificate) => void;
}>;

type Server = PlainServer | TlsServer;

/** What the parser's complaints are called; all others are `invalid_request`. */
const PARSER_ERRORS: ReadonlyMap<string, ErrorCode> = new Map([
  ['HPE_HEADER_OVERFLOW', 'headers_too_large'],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 'payload_too_large'],
  ['ERR_HTTP_REQUEST_TIMEOUT', 'request_timeout'],
]);

/** Creates the server; it opens nothing before `listen`. */
export function createHttpServer(
  options: HttpOptions,
  limits: HttpLimits = HTTP_LIMITS,
): HttpServer {
  const state: ServerState = {
    routes: options.routes,
    proxies: options.trustedProxies,
    apiKeys: options.apiKeys,
    onError: options.onError,
    log: options.log ?? null,
    requestsMax: limits.requestsMax,
    requests: 0,
    phase: 'open',
  };
  const server = openServer(limits, options.certificate ?? null);
  server.timeout = limits.stalledTimeoutMs;
  server.maxConnections = limits.connectionsMax;
  const connections = listenToEvents(server, state);
  const isSecure = server instanceof TlsServer;
  const breakOff = isSecure ? watchHandshakes(server) : () => {};
  return {
    listen: (port, host) => listen(server, state, port, host),
    retire: (timeoutMs) => retire(server, state, timeoutMs),
    close: (timeoutMs) => {
      const closed = close(server, state, connections, timeoutMs);
      breakOff();
      return closed;
    },
    setCertificate: (certificate) => {
      if (isSecure) server.setSecureContext(secureOptions(certificate));
    },
  };
}

function openServer(limits: HttpLimits, certificate: Certificate | null): Server {
  const options = {
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    maxHeaderSize: limits.headersMaxBytes,
    // Host is checked in head.ts, where its answer has our format.
    requireHostHeader: false,
  };
  if (certificate === null) return createPlainServer(options);
  return createTlsServer({
    ...options,
    ...secureOptions(certificate),
    ALPNProtocols: [...PROTOCOLS],
    // The time of a client that never sends a header section.
    handshakeTimeout: limits.headersTimeoutMs,
    // As node:http has it: who has sent all may close that side and wait for the answer.
    allowHalfOpen: true,
  });
}

/** Every event of node:http goes to the connection it is about. */
function listenToEvents(server: Server, state: ServerState): OpenConnections {
  const connections: OpenConnections = new Map();
  const request = (req: IncomingMessage, res: ServerResponse): void => {
    const connection = connections.get(req.socket);
    if (connection !== undefined) accept(state, connection, req, res);
  };
  const isSecure = server instanceof TlsServer;
  // Plain requests on the port of TLS never get so far: they end as the handshake fails.
  server.on(isSecure ? 'secureConnection' : 'connection', (socket: Socket) => {
    const connection = openHttpConnection(socket);
    connections.set(socket, connection);
    socket.once('close', () => {
      connections.delete(socket);
      abandon(state, connection);
    });
  });
  server.on('request', request);
  server.on('checkContinue', request);
  server.on('checkExpectation', request);
  server.on('connect', (req: IncomingMessage) => {
    const connection = connections.get(req.socket);
    if (connection !== undefined) closeWith(state, connection, state.routes.noTunnel);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const connection = connections.get(stream as Socket);
    const code = PARSER_ERRORS.get(error.code ?? '') ?? 'invalid_request';
    // Not writable: the client is gone (ECONNRESET and its like), there is nobody to answer.
    if (connection === undefined || !stream.writable) stream.destroy();
    else refuseBytes(state, connection, code, closingErrorResponse(code));
  });
  return connections;
}

function listen(
  server: Server,
  state: ServerState,
  port: number,
  host: string,
): Promise<{ port: number }> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      // Such as EMFILE while accepting: that connection is lost, the server goes on.
      server.on('error', (error) => state.onError({ requestId: '', route: '', error }));
      resolve({ port: (server.address() as AddressInfo).port });
    });
  });
}

/** The limits of the connections: milliseconds, bytes and counts. */
export type HttpLimits = Readonly<{
  headersTimeoutMs: number;
  requestTimeoutMs: number;
  keepAliveTimeoutMs: number;
  stalledTimeoutMs: number;
  checkIntervalMs: number;
  headersMaxBytes: number;
  connectionsMax: number;
  requestsMax: number;
}>;

/** The limits in production; tests shorten them. */
export const HTTP_LIMITS: HttpLimits = Object.freeze({
  // A silent socket is one whose header section never comes: the same limit ends it.
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 15_000,
  keepAliveTimeoutMs: 5_000,
  // A client that does not read its answers; well over the slowest answer.
  stalledTimeoutMs: 30_000,
  // How late a time-out may be noticed.
  checkIntervalMs: 500,
  headersMaxBytes: 16 * 1024,
  // About 10 KiB each: 100 MiB at the worst.
  connectionsMax: 10_000,
  requestsMax: 10_000,
});

/** The limits of the second listener, which a few probes ask. */
export const ADMIN_LIMITS: HttpLimits = Object.freeze({
  ...HTTP_LIMITS, connectionsMax: 100, requestsMax: 100,
});
