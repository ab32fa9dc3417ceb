/**
 * The proxy on the way to a provider, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say: a tunnel to an
 * https URL (CONNECT; RFC 9110, 9.3.6), and the absolute form for an http URL (RFC 9112, 3.2.2).
 */
import { request as httpRequest } from 'node:http';
import type { ClientRequest, OutgoingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { AgentOptions, RequestOptions } from 'node:https';
import { BlockList, isIP } from 'node:net';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { isLoopbackHost } from './channel.ts';

/** The values of the variables; undefined when not set. */
export type ProxyValues = Readonly<{
  /** HTTPS_PROXY: the proxy to URLs with https. */
  https: string | undefined;
  /** HTTP_PROXY: the proxy to URLs with http. */
  http: string | undefined;
  /** NO_PROXY: the hosts that are reached without a proxy. */
  bypass: string | undefined;
}>;

/** Returns the proxy for a URL; null for a direct connection. */
export type FindProxy = (url: URL) => URL | null;

/** @returns the choice of a proxy, or every error without its value, which may hold a password */
export function parseProxies(
  values: ProxyValues,
): { findProxy: FindProxy } | { errors: string[] } {
  const errors: string[] = [];
  const proxies: Readonly<Record<string, URL | null>> = {
    'https:': parseProxy('HTTPS_PROXY', values.https, errors),
    'http:': parseProxy('HTTP_PROXY', values.http, errors),
  };
  const isBypassed = parseBypass(values.bypass ?? '');
  // A proxy cannot reach this machine under the name that the machine has for itself.
  const findProxy: FindProxy = (url) =>
    (isLoopbackHost(url.hostname) || isBypassed(url) ? null : proxies[url.protocol] ?? null);
  return errors.length > 0 ? { errors } : { findProxy };
}

function parseProxy(name: string, text: string | undefined, errors: string[]): URL | null {
  if (text === undefined) return null;
  const full = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : null;
  if (url !== null && /^https?:$/.test(url.protocol) && /^\/?$/.test(url.pathname)
    && !/[?#\s]/.test(text) && decodeAccount(url) !== null) return url;
  errors.push(`${name} must be a URL such as http://proxy.example.com:3128, with USER:PASSWORD@`
    + ' before the host if the proxy needs it');
  return null;
}

/**
 * Reads hosts, domains with their subdomains, addresses and CIDR blocks, each with a port if only
 * that is meant; `*` stands for every host. Other entries match nothing.
 */
function parseBypass(text: string): (url: URL) => boolean {
  const entries = text.toLowerCase().split(/[\s,]+/).filter((entry) => entry !== '');
  const tests = entries.map((entry) => {
    const [, host = '', port] = /^(\[.*\]|[^:]*|.*:.*:.*?)(?::(\d+))?$/.exec(entry) ?? [];
    const isHost = matchHost(host.replace(/^\[(.*)\]$/, '$1'));
    return (url: URL) => (port === undefined || port === portOf(url)) && isHost(hostOf(url));
  });
  return (url) => tests.some((matches) => matches(url));
}

function matchHost(pattern: string): (host: string) => boolean {
  const [address = '', prefix] = pattern.split('/');
  const family = isIP(address);
  if (family !== 0) {
    const block = new BlockList();
    const bits = prefix === undefined ? (family === 4 ? 32 : 128) : Number(prefix);
    if (!(bits >= 0 && bits <= (family === 4 ? 32 : 128))) return () => false;
    block.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6');
    return (host) => isIP(host) === family && block.check(host, family === 4 ? 'ipv4' : 'ipv6');
  }
  const domain = pattern.replace(/^\*?\.(?=.)/, '');
  return (host) => pattern === '*' || host === domain || host.endsWith(`.${domain}`);
}

function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '').toLowerCase();
}

function portOf({ port, protocol }: URL): string {
  return port !== '' ? port : protocol === 'https:' ? '443' : '80';
}

/** Null for an account that is not percent-encoded. */
function decodeAccount({ username, password }: URL): string | null {
  try {
    return `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    return null;
  }
}

/** Where and how the requests to a URL are sent. */
export type HttpRoute = Readonly<{
  url: URL;
  path: string;
  headers: OutgoingHttpHeaders;
  /** The proxy of a tunnel to `url`. */
  tunnel: URL | null;
}>;

/** @param findProxy by default every connection is direct */
export function findRoute(url: URL, findProxy: FindProxy = () => null): HttpRoute {
  const proxy = findProxy(url);
  const path = `${url.pathname}${url.search}`;
  if (proxy === null || url.protocol === 'https:') {
    return { url, path, headers: {}, tunnel: proxy };
  }
  const headers = { Host: url.host, ...proxyHeaders(proxy) };
  return { url: proxy, path: `${url.origin}${path}`, headers, tunnel: null };
}

/** Basic authentication (RFC 7617), if the URL has an account. */
function proxyHeaders(proxy: URL): OutgoingHttpHeaders {
  const account = decodeAccount(proxy) ?? ':';
  if (account === ':') return {};
  return { 'Proxy-Authorization': `Basic ${Buffer.from(account).toString('base64')}` };
}

/** The proxy answered a CONNECT with a status that opens no tunnel. */
export class ProxyRefusal extends Error {
  override name = 'ProxyRefusal';
  readonly status: number;

  constructor(status: number) {
    super(`the proxy answered ${status}`);
    this.status = status;
  }
}

type OnCreate = (error: Error | null, socket: Duplex) => void;

/** Opens each connection through a tunnel; TLS is between otpd and the provider. */
export class TunnelAgent extends HttpsAgent {
  readonly #proxy: URL;
  readonly #timeoutMs: number;
  readonly #opening = new Set<ClientRequest>();

  /** @param timeoutMs bounds the opening of a tunnel */
  constructor(options: AgentOptions, proxy: URL, timeoutMs: number) {
    super(options);
    this.#proxy = proxy;
    this.#timeoutMs = timeoutMs;
  }

  override createConnection(options: RequestOptions, onCreate?: OnCreate): undefined {
    const host = isIP(options.host ?? '') === 6 ? `[${options.host}]` : options.host;
    const path = `${host}:${options.port}`;
    const open = this.#proxy.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers = { Host: path, ...proxyHeaders(this.#proxy) };
    const request = open(this.#proxy, { method: 'CONNECT', path, headers, agent: false });
    const timer = setTimeout(() => request.destroy(), this.#timeoutMs);
    this.#opening.add(request);
    // The type of Node.js demands a socket, and its agent ignores it after an error.
    const fail = (error: Error): void => onCreate?.(error, undefined as unknown as Duplex);
    const end = (): void => {
      clearTimeout(timer);
      this.#opening.delete(request);
    };
    request.on('connect', ({ statusCode = 0 }, socket: Socket, head) => {
      end();
      if (Math.floor(statusCode / 100) !== 2) {
        socket.destroy();
        fail(new ProxyRefusal(statusCode));
        return;
      }
      if (head.length > 0) socket.unshift(head);
      const tlsOptions = { ...options, ALPNProtocols: ['http/1.1'], socket };
      onCreate?.(null, connectTls(tlsOptions as ConnectionOptions));
    });
    request.on('error', (error) => {
      end();
      fail(error);
    });
    request.end();
    return undefined;
  }

  override destroy(): void {
    for (const request of this.#opening) request.destroy();
    super.destroy();
  }
}
