/** The HTTP server: node:http with its limits, and where its events go. */
import { createServer as createPlainServer } from 'node:http';
import type { Server as PlainServer } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { RequestLog } from './access-log.ts';
import { serveConnections } from './connection.ts';
import type { RequestError, ServerState } from './connection.ts';
import type { ApiKeys } from './input/api-keys.ts';
import type { TrustedProxies } from './input/client-ip.ts';
import type { Routes } from './router.ts';
import { close, retire } from './shutdown.ts';
import { PROTOCOLS, secureOptions, trackHandshakes } from './tls.ts';
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
  onError: (error: RequestError) => void;
  /** Told of every request that has ended, with the error behind it. */
  log?: RequestLog;
}>;

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
  const connections = serveConnections(server, state);
  const isSecure = server instanceof TlsServer;
  const abortHandshakes = isSecure ? trackHandshakes(server) : () => {};
  return {
    listen: (port, host) => listen(server, state, port, host),
    retire: (timeoutMs) => retire(server, state, timeoutMs),
    close: (timeoutMs) => {
      const closed = close(server, state, connections, timeoutMs);
      abortHandshakes();
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
