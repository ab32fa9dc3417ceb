/** The HTTP server: node:http or node:https with limits, and its life cycle. */
import { createServer as createPlainServer } from 'node:http';
import type { Server as PlainServer } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { RequestLog } from './access-log.ts';
import { serveConnections } from './connection.ts';
import type { Notice, RequestError, ServerState } from './connection.ts';
import type { ApiKeys } from './input/api-keys.ts';
import type { BrowserRules } from './input/browsers.ts';
import { parseAddress, toClientAddress } from './input/client-ip.ts';
import type { TrustedProxies } from './input/client-ip.ts';
import { answerHalfClosed } from './node-internals.ts';
import type { Routes } from './routes.ts';
import { close, retire } from './shutdown.ts';
import { PROTOCOLS, secureOptions, trackHandshakes } from './tls.ts';
import type { Certificate } from './tls.ts';

type HttpOptions = Readonly<{
  routes: Routes;
  trustedProxies: TrustedProxies;
  browsers: BrowserRules;
  /** Null when the endpoints are public. */
  apiKeys: ApiKeys | null;
  /** Null for plain HTTP. */
  certificate?: Certificate | null;
  /** Gets errors of the listener and, without a log, the causes of a 500 or 503. */
  onError: (error: RequestError) => void;
  /** Gets what an operator should know, possibly again and again. */
  onNotice?: (notice: Notice) => void;
  /** Gets a record of every finished request. */
  log?: RequestLog;
}>;

export type HttpLimits = Readonly<{
  headersTimeoutMs: number;
  requestTimeoutMs: number;
  keepAliveTimeoutMs: number;
  stalledTimeoutMs: number;
  checkIntervalMs: number;
  headersMaxBytes: number;
  connectionsMax: number;
  /** For each peer that is not a trusted proxy. */
  connectionsPerPeerMax: number;
  requestsMax: number;
}>;

/** The limits in production. */
export const HTTP_LIMITS: HttpLimits = Object.freeze({
  // This limit also ends a silent socket, because its header section never arrives.
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 15_000,
  // More than the 60 s after which nginx and most load balancers close an idle connection: the
  // side that sends requests should close first, or a request meets the close.
  keepAliveTimeoutMs: 75_000,
  // For a client that does not read its responses; well over the longest deadline.
  stalledTimeoutMs: 30_000,
  // A time-out may be noticed this much later.
  checkIntervalMs: 500,
  headersMaxBytes: 16 * 1024,
  // About 10 KiB each, 100 MiB in all.
  connectionsMax: 10_000,
  // An API client uses a few dozen.
  connectionsPerPeerMax: 256,
  requestsMax: 10_000,
});

/** The limits of the admin listener, which a few probes and scrapers use. */
export const ADMIN_LIMITS: HttpLimits = Object.freeze({
  ...HTTP_LIMITS, connectionsMax: 100, connectionsPerPeerMax: 50, requestsMax: 100,
});

/** A server that is started and stopped once. */
export type HttpServer = Readonly<{
  /** Resolves with the port; rejects when the server cannot listen. */
  listen: (port: number, host: string) => Promise<{ port: number }>;
  /**
   * Accepts no further connection, and answers requests on the open ones with Connection: close.
   * Resolves when the last connection is closed, or after the timeout.
   */
  retire: (timeoutMs: number) => Promise<void>;
  /**
   * Accepts nothing further and answers the requests in flight with Connection: close. Destroys the
   * remaining sockets after the timeout. Resolves with whether every complete request was answered.
   */
  close: (timeoutMs: number) => Promise<boolean>;
  /**
   * Replaces the certificate for new connections; does nothing on a server without one.
   *
   * @throws Error when the certificate is unusable; the old one stays in force
   */
  setCertificate: (certificate: Certificate) => void;
}>;

type Server = PlainServer | TlsServer;

/** Creates a server, which opens no port before `listen`. */
export function createHttpServer(
  options: HttpOptions,
  limits: HttpLimits = HTTP_LIMITS,
): HttpServer {
  const state: ServerState = {
    routes: options.routes,
    proxies: options.trustedProxies,
    apiKeys: options.apiKeys,
    browsers: options.browsers,
    onError: options.onError,
    onNotice: options.onNotice ?? (() => {}),
    // With API keys no address in X-Forwarded-For counts.
    knowsProxies: options.apiKeys !== null || options.onNotice === undefined,
    log: options.log ?? null,
    requestsMax: limits.requestsMax,
    requests: 0,
    phase: 'open',
  };
  const server = openServer(limits, options.certificate ?? null);
  server.timeout = limits.stalledTimeoutMs;
  server.maxConnections = limits.connectionsMax;
  answerHalfClosed(server);
  const connections = serveConnections(server, state);
  limitPeers(server, state, limits.connectionsPerPeerMax);
  const isSecure = server instanceof TlsServer;
  const abortHandshakes = isSecure ? trackHandshakes(server) : () => {};
  return {
    listen: (port, host) => listen(server, state, port, host),
    retire: (timeoutMs) => retire(server, state, connections, timeoutMs),
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
    // input/request-head.ts checks Host, so that the response has the format of otpd.
    requireHostHeader: false,
  };
  if (certificate === null) return createPlainServer(options);
  return createTlsServer({
    ...options,
    ...secureOptions(certificate),
    ALPNProtocols: [...PROTOCOLS],
    // A silent client has the same time as one that never sends a header section.
    handshakeTimeout: limits.headersTimeoutMs,
    // As in node:http: a client may close its sending side and wait for the response.
    allowHalfOpen: true,
  });
}

/**
 * Resets the connections of a peer beyond its bound. Peers are the addresses that limits count, so
 * that nobody has a bound for each of the addresses of a /64.
 */
function limitPeers(server: Server, { proxies, onNotice }: ServerState, max: number): void {
  const counts = new Map<string | null, number>();
  server.on('connection', (socket: Socket) => {
    const address = parseAddress(socket.remoteAddress ?? '');
    if (address === null || proxies.has(address)) return;
    const { clientIp: peer } = toClientAddress(address);
    const count = counts.get(peer) ?? 0;
    if (count >= max) {
      socket.resetAndDestroy();
      onNotice('peer_connections_refused');
      return;
    }
    counts.set(peer, count + 1);
    socket.once('close', () => {
      const left = counts.get(peer)! - 1;
      if (left === 0) counts.delete(peer);
      else counts.set(peer, left);
    });
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
      // An error such as EMFILE while accepting costs that connection only.
      server.on('error', (error) => state.onError({ requestId: '', route: '', error }));
      resolve({ port: (server.address() as AddressInfo).port });
    });
  });
}
