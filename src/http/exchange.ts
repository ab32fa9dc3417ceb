/** One request and its response: the checks in order (docs/api.md, "Errors"), then the handler. */
import { Buffer } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HandlerInput, MethodHandler } from './handler.ts';
import { authorize } from './input/api-keys.ts';
import type { ApiClient, ApiKeys, Scope } from './input/api-keys.ts';
import { forwardedClientIp, clientIpFromHeader } from './input/client-ip.ts';
import type { TrustedProxies } from './input/client-ip.ts';
import { BODY_MAX_BYTES, readBody, takeBody } from './input/body.ts';
import type { BodyReading, BodyResult } from './input/body.ts';
import { browserResponse, corsHeaders } from './input/browsers.ts';
import type { BrowserRules } from './input/browsers.ts';
import {
  acceptedLanguages, clientRequestId, framingError, isOtpPath, isReportPath, mediaTypeError, pathOf,
  readHeaders,
} from './input/request-head.ts';
import type { RequestHeaders } from './input/request-head.ts';
import {
  closingErrorResponse, retryLater, errorResponse, invalidField, SHED_RETRY_SECONDS, withHeaders,
} from './response.ts';
import type { HttpResponse, ErrorCode, FieldError } from './response.ts';
import type { Route, Routes } from './routes.ts';
import { randomRequestId } from '../otp/crypto/random.ts';
import type { ClientAddress } from '../otp/outcomes.ts';
import { dueFromNow } from '../otp/service.ts';

/** Who may call: API clients, pages in browsers, and proxies on behalf of others. */
export type Access = Readonly<{
  /** Null when the endpoints are public. */
  apiKeys: ApiKeys | null;
  browsers: BrowserRules;
  proxies: TrustedProxies;
}>;

export type Exchange = {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly headers: RequestHeaders;
  readonly requestId: string;
  readonly path: string | null;
  readonly route: Route;
  /** Undefined when the route does not serve the method. */
  readonly method: MethodHandler | undefined;
  readonly startedAtMs: number;
  /** When the response is due; a body that arrives later extends it. */
  answerByMs: number;
  /** Null before authentication, and when the endpoints are public. */
  apiClient: ApiClient | null;
  /** The client IP that limits count, or null for none; undefined before it is determined. */
  clientIp: string | null | undefined;
  /** True when the server is over its limits or stopping. */
  isShed: boolean;
  /** The error that the parser or a time limit has found in the body. */
  bodyError: ErrorCode | null;
  reading: BodyReading | null;
  hasSentContinue: boolean;
  isAnswered: boolean;
};

/** The response to a shed request; closing the connection makes the client back off. */
const SHED: HttpResponse = Object.freeze({
  ...retryLater('unavailable', SHED_RETRY_SECONDS), close: true,
});

/** Reads the header section and looks up the route; decides nothing. */
export function openExchange(
  req: IncomingMessage,
  res: ServerResponse,
  routes: Routes,
): Exchange {
  const headers = readHeaders(req);
  const path = pathOf(req.url ?? '');
  const route = path === null ? routes.other : findRoute(routes, path);
  return {
    req, res, headers, path, route,
    startedAtMs: routes.now(),
    answerByMs: dueFromNow(),
    requestId: clientRequestId(headers) ?? randomRequestId(),
    method: route.methods.get(req.method ?? ''),
    apiClient: null, clientIp: undefined, isShed: false, bodyError: null, reading: null,
    hasSentContinue: false,
    isAnswered: false,
  };
}

function findRoute({ fixed, otp, report, user, other }: Routes, path: string): Route {
  const route = fixed.get(path);
  if (route !== undefined) return route;
  if (otp !== null && isOtpPath(path)) return otp;
  if (report !== null && isReportPath(path)) return report;
  return user?.(path) ?? other;
}

/** Determines the response to a request; null when the client has disconnected. */
export async function respondTo(
  exchange: Exchange,
  access: Access,
): Promise<HttpResponse | null> {
  const { req, headers, path } = exchange;
  const early = earlyResponse(exchange, access);
  if (early !== null) return withHeaders(early, routeHeaders(exchange, access));
  // earlyResponse has answered a request without a method.
  const method = exchange.method as MethodHandler;
  const isWaiting = expectsContinue(exchange);
  const error = isWaiting ? headerFieldError(exchange, access, method) : null;
  if (error !== null) return invalidField(error, routeHeaders(exchange, access));
  // Nobody reads the body for which this client would wait.
  const isBodyIgnored = isWaiting && method.content === null;
  if (isWaiting && !isBodyIgnored) sendContinue(exchange);
  // One microtask later the parser has delivered the body that arrived with the header section.
  await null;
  const body = isBodyIgnored ? NO_BODY
    : takeBody(req, headers.contentLength) ?? await awaitBody(exchange);
  if (body === null) return null;
  if (typeof body === 'string') {
    return withHeaders(closingErrorResponse(body), routeHeaders(exchange, access));
  }
  const client = identifyClient(exchange, access);
  if (client === null) return null;
  if ('field' in client) return invalidField(client, routeHeaders(exchange, access));
  const { apiClient, clientIp, clientNet48 } = client;
  exchange.clientIp = clientIp;
  return method.handle({
    path: path as string, body, apiClient, clientIp, clientNet48,
    scopes: exchange.apiClient?.scopes ?? NO_SCOPES,
    purposes: exchange.apiClient?.purposes ?? null,
    idempotencyKeys: headers.idempotencyKeys, acceptLanguage: acceptedLanguages(headers),
    deviceTokens: headers.deviceTokens,
    isConnected: () => req.socket.writable, answerByMs: exchange.answerByMs,
  });
}

/** The response to CONNECT, whose target is not a path. */
export function respondToConnect(
  req: IncomingMessage,
  { browsers }: Access,
  { connectNotAllowed }: Routes,
): HttpResponse {
  const headers = readHeaders(req);
  const response = browserResponse(req, headers, browsers) ?? connectNotAllowed;
  return withHeaders(response, corsHeaders(headers, browsers));
}

/** The headers of responses on this route that the handler does not create. */
export function routeHeaders(exchange: Exchange, access: Access): readonly string[] {
  const client = readClient(exchange, access);
  return exchange.route.headersFor(client === null || 'field' in client ? UNNAMED : client);
}

const NO_SCOPES: readonly Scope[] = Object.freeze([]);

/** The API client has named no client IP, so that none is counted. */
const UNNAMED: ClientAddress = Object.freeze({ clientIp: null, clientNet48: null });

/**
 * The client whose address is counted. An API client acts for many users, so it is the client that
 * the API client names, or null for none. Without API keys, null when the client has disconnected.
 */
function readClient(
  { req, headers }: Exchange,
  { apiKeys, proxies }: Access,
): ClientAddress | FieldError | null {
  return apiKeys !== null ? clientIpFromHeader(headers.clientIps)
    : forwardedClientIp(req.socket.remoteAddress, headers.forwardedFor, proxies);
}

type ClientIdentity = Pick<HandlerInput, 'apiClient' | keyof ClientAddress>;

/** The API client and the counted client of a request; null when the client has disconnected. */
function identifyClient(
  exchange: Exchange,
  access: Access,
): ClientIdentity | FieldError | null {
  const { req, apiClient } = exchange;
  if (req.socket.remoteAddress === undefined) return null;
  // Without a valid API key nobody names a client.
  const isNamed = access.apiKeys === null || apiClient !== null;
  const client = (isNamed ? readClient(exchange, access) : null) ?? UNNAMED;
  return 'field' in client ? client : { apiClient: apiClient?.name ?? null, ...client };
}

const NO_BODY = Buffer.alloc(0);

/**
 * An invalid field of the header section. It is reported before 100 Continue (RFC 9110, 10.1.1);
 * without that expectation the errors of the body come first.
 */
function headerFieldError(
  exchange: Exchange,
  access: Access,
  { parseKey }: MethodHandler,
): FieldError | null {
  const client = identifyClient(exchange, access);
  if (client !== null && 'field' in client) return client;
  const key = parseKey(exchange.headers.idempotencyKeys);
  return typeof key === 'object' ? key : null;
}

/** Sends 100 Continue, unless the client announces no body. */
function sendContinue(exchange: Exchange): void {
  const { contentLength, transferEncoding } = exchange.headers;
  if (transferEncoding === '' && (contentLength ?? 0) === 0) return;
  exchange.res.writeContinue();
  exchange.hasSentContinue = true;
}

/** Reads a body that has not arrived yet; an error found meanwhile ends the reading. */
async function awaitBody(exchange: Exchange): Promise<BodyResult> {
  exchange.reading = readBody(exchange.req);
  if (exchange.bodyError !== null) exchange.reading.fail(exchange.bodyError);
  const body = await exchange.reading.result;
  exchange.answerByMs = dueFromNow();
  return body;
}

/** The response that the header section decides (docs/api.md, "Errors"); null: read the body. */
function earlyResponse(exchange: Exchange, access: Access): HttpResponse | null {
  const { req, headers, path, route, method } = exchange;
  if (exchange.isShed) return SHED;
  const framing = framingError(req, headers);
  if (framing !== null) return framing;
  if (path === null) return closingErrorResponse('invalid_request');
  const browser = browserResponse(req, headers, access.browsers);
  if (browser !== null) return browser;
  if (method === undefined) return route.notAllowed;
  const { apiKeys } = access;
  const { scopes } = method;
  const denial = apiKeys === null || scopes === null ? null
    : authenticate(exchange, apiKeys, scopes);
  if (denial !== null) return denial;
  if (hasExpectation(exchange) && !expectsContinue(exchange)) {
    return errorResponse('expectation_failed');
  }
  const mediaType = method.content === null ? null : mediaTypeError(headers, method.content);
  if (mediaType !== null) return mediaType;
  const isTooLong = (headers.contentLength ?? 0) > BODY_MAX_BYTES;
  return isTooLong ? closingErrorResponse('payload_too_large') : null;
}

/** Sets the API client of a request, or responds 401 or 403 before the body is read. */
function authenticate(
  exchange: Exchange,
  apiKeys: ApiKeys,
  scopes: readonly Scope[],
): HttpResponse | null {
  const apiClient = authorize(apiKeys, exchange.headers.authorizations, scopes);
  if ('code' in apiClient) return apiClient;
  exchange.apiClient = apiClient;
  return null;
}

/** HTTP/1.0 has no expectations, so the field is ignored there (RFC 9110, 10.1.1). */
function hasExpectation({ req, headers }: Exchange): boolean {
  return headers.expect !== '' && req.httpVersionMinor === 1;
}

function expectsContinue(exchange: Exchange): boolean {
  return hasExpectation(exchange) && exchange.headers.expect.toLowerCase() === '100-continue';
}

/**
 * Whether a response given now must close the connection: bytes may be lost, the rest of the body
 * is unbounded, or the client waits for 100 Continue and may send the body or not.
 */
export function mustCloseConnection(exchange: Exchange): boolean {
  const { contentLength, transferEncoding, upgrade } = exchange.headers;
  // The parser drops the bytes that arrive behind such a request in one piece with its end.
  if (upgrade) return true;
  const isWaiting = hasExpectation(exchange) && !exchange.hasSentContinue;
  // node:http closes a connection on which it has not sent 100 Continue.
  if (isWaiting && expectsContinue(exchange)) return true;
  if (exchange.req.complete) return false;
  if (isWaiting) return true;
  return transferEncoding !== '' || (contentLength ?? 0) > BODY_MAX_BYTES;
}
