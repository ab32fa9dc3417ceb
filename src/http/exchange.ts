/** One request and its response: the checks in their order, then the handler. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HandlerInput, MethodHandler } from './handler.ts';
import { authorize } from './input/api-keys.ts';
import type { ApiClient, ApiKeys } from './input/api-keys.ts';
import { forwardedClientIp, clientIpFromHeader } from './input/client-ip.ts';
import type { TrustedProxies } from './input/client-ip.ts';
import { BODY_MAX_BYTES, readBody, takeBody } from './input/body.ts';
import type { BodyReading, BodyResult } from './input/body.ts';
import {
  acceptedLanguages, clientRequestId, framingError, mediaTypeError, readHeaders,
} from './input/request-headers.ts';
import type { RequestHeaders } from './input/request-headers.ts';
import type { RouteMeter } from './metrics.ts';
import {
  closingErrorResponse, retryLater, errorResponse, invalidField, SHED_RETRY_SECONDS, withHeaders,
} from './response.ts';
import type { HttpResponse, ErrorCode, FieldError } from './response.ts';
import { findRoute, pathOf } from './router.ts';
import type { Route, Routes } from './router.ts';
import { randomRequestId } from '../otp/crypto/random.ts';

/** Who may call, and by whose word an address is known. */
export type Access = Readonly<{
  /** Null: the endpoints are public. */
  apiKeys: ApiKeys | null;
  proxies: TrustedProxies;
}>;

/** A request on its way to an response. */
export type Exchange = {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly headers: RequestHeaders;
  readonly requestId: string;
  readonly path: string | null;
  readonly route: Route | undefined;
  /** How the route serves the method; undefined when it does not. */
  readonly method: MethodHandler | undefined;
  readonly meter: RouteMeter;
  readonly startedAtMs: number;
  /** Whose key it has; null before that is known, and where apiKeys have none. */
  apiClient: ApiClient | null;
  /** The counted client address, or null; undefined before that is known. */
  clientIp: string | null | undefined;
  /** Set when the service has no room for it. */
  isShed: boolean;
  /** What the parser or a time limit found in its body. */
  bodyError: ErrorCode | null;
  reading: BodyReading | null;
  hasSentContinue: boolean;
  isAnswered: boolean;
};

/** 503 for what there is no room for; the connection closes, so that the client backs off. */
const SHED: HttpResponse = Object.freeze({
  ...retryLater('unavailable', SHED_RETRY_SECONDS), close: true,
});

/** Begins an exchange: reads the header section and looks up the route, decides nothing. */
export function openExchange(
  req: IncomingMessage,
  res: ServerResponse,
  routes: Routes,
): Exchange {
  const headers = readHeaders(req);
  const path = pathOf(req.url ?? '');
  const route = path === null ? undefined : findRoute(routes, path);
  const meter = route === undefined ? routes.other : route.meter;
  return {
    req, res, headers, path, route, meter,
    startedAtMs: routes.now(),
    requestId: clientRequestId(headers) ?? randomRequestId(),
    method: route?.methods.get(req.method ?? ''),
    apiClient: null, clientIp: undefined, isShed: false, bodyError: null, reading: null,
    hasSentContinue: false,
    isAnswered: false,
  };
}

/**
 * Finds the response of an exchange whose turn has come.
 *
 * @returns the response, or null when the client is gone and nothing shall be done for it
 */
export async function respondTo(
  exchange: Exchange,
  access: Access,
): Promise<HttpResponse | null> {
  const { req, headers, path, method } = exchange;
  const early = earlyResponse(exchange, access);
  if (early !== null) return withHeaders(early, routeHeaders(exchange, access));
  if (expectsContinue(exchange)) {
    exchange.res.writeContinue();
    exchange.hasSentContinue = true;
  }
  // After this turn the parser has handed over what came together with the header section.
  await null;
  const body = takeBody(req, headers.contentLength) ?? await awaitBody(exchange);
  if (body === null) return null;
  if (typeof body === 'string') {
    return withHeaders(closingErrorResponse(body), routeHeaders(exchange, access));
  }
  const client = identifyClient(exchange, access);
  if (client === null) return null;
  if ('field' in client) return invalidField(client, routeHeaders(exchange, access));
  const { apiClient, clientIp } = client;
  exchange.clientIp = clientIp;
  return (method as MethodHandler).handle({
    path: path as string, body, apiClient, clientIp, idempotencyKeys: headers.idempotencyKeys,
    acceptLanguage: acceptedLanguages(headers), isConnected: () => req.socket.writable,
  });
}

/** Headers of every response to a request that is given beside its handler. */
export function routeHeaders({ route, headers }: Exchange, { apiKeys }: Access): readonly string[] {
  return route?.headersFor(apiKeys === null || headers.clientIps.length > 0) ?? [];
}

type ClientIdentity = Pick<HandlerInput, 'apiClient' | 'clientIp'>;

/**
 * Who sent a request, and from where. A caller with a key speaks for many clients: the address is
 * the one that it names, if any. Null when the client is gone.
 */
function identifyClient(
  { req, headers, apiClient }: Exchange,
  { apiKeys, proxies }: Access,
): ClientIdentity | FieldError | null {
  if (apiKeys === null) {
    const clientIp = forwardedClientIp(req.socket.remoteAddress, headers.forwardedFor, proxies);
    return clientIp === null ? null : { apiClient: null, clientIp };
  }
  if (req.socket.remoteAddress === undefined) return null;
  const clientIp = clientIpFromHeader(headers.clientIps);
  if (typeof clientIp === 'object' && clientIp !== null) return clientIp;
  return { apiClient: (apiClient as ApiClient).name, clientIp };
}

/** Reads what has not come yet; a fault that was found meanwhile ends it. */
function awaitBody(exchange: Exchange): Promise<BodyResult> {
  exchange.reading = readBody(exchange.req);
  if (exchange.bodyError !== null) exchange.reading.fail(exchange.bodyError);
  return exchange.reading.result;
}

/** What the header section alone decides, in the order of the contract; null to read on. */
function earlyResponse(exchange: Exchange, { apiKeys }: Access): HttpResponse | null {
  const { req, headers, path, route, method } = exchange;
  if (exchange.isShed) return SHED;
  const framing = framingError(req, headers);
  if (framing !== null) return framing;
  if (path === null) return closingErrorResponse('invalid_request');
  if (route === undefined) return errorResponse('not_found');
  if (method === undefined) return route.notAllowed;
  const denial = apiKeys === null ? null : authenticate(exchange, apiKeys, method);
  if (denial !== null) return denial;
  if (hasExpectation(exchange) && !expectsContinue(exchange)) {
    return errorResponse('expectation_failed');
  }
  const mediaType = method.takesJson ? mediaTypeError(headers) : null;
  if (mediaType !== null) return mediaType;
  const isTooLong = (headers.contentLength ?? 0) > BODY_MAX_BYTES;
  return isTooLong ? closingErrorResponse('payload_too_large') : null;
}

/** Notes whose key a request has, or says why it is not let in; nothing of its body was read. */
function authenticate(
  exchange: Exchange,
  apiKeys: ApiKeys,
  { scopes }: MethodHandler,
): HttpResponse | null {
  const apiClient = authorize(apiKeys, exchange.headers.authorizations, scopes);
  if ('code' in apiClient) return apiClient;
  exchange.apiClient = apiClient;
  return null;
}

/** HTTP/1.0 knows no expectations: they are ignored there (RFC 9110, 10.1.1). */
function hasExpectation({ req, headers }: Exchange): boolean {
  return headers.expect !== '' && req.httpVersionMinor === 1;
}

function expectsContinue(exchange: Exchange): boolean {
  return hasExpectation(exchange) && exchange.headers.expect.toLowerCase() === '100-continue';
}

/**
 * Whether the connection cannot be used again after an response that is given now: what is left of
 * the body is without a bound, or the client may or may not send one that it asked leave for.
 */
export function mustCloseConnection(exchange: Exchange): boolean {
  const { contentLength, transferEncoding, upgrade } = exchange.headers;
  const isChunked = transferEncoding !== '';
  // The parser throws away what follows a request with Upgrade and no body in the same packet.
  if (upgrade && !isChunked && (contentLength ?? 0) === 0) return true;
  if (exchange.req.complete) return false;
  if (hasExpectation(exchange) && !exchange.hasSentContinue) return true;
  return isChunked || (contentLength ?? 0) > BODY_MAX_BYTES;
}
