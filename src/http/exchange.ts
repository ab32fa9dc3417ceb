/** One request and its answer: the checks in their order, then the handler. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HandlerInput, MethodHandler } from './handler.ts';
import { authorize } from './input/api-keys.ts';
import type { ApiClient, ApiKeys } from './input/api-keys.ts';
import { forwardedClientIp, clientIpFromHeader } from './input/client-ip.ts';
import type { TrustedProxies } from './input/client-ip.ts';
import { BODY_MAX_BYTES, readBody, takeBody } from './input/body.ts';
import type { BodyReading, BodyResult } from './input/body.ts';
import {
  acceptedLanguages, framingError, mediaTypeError, ownRequestId, readHeaders,
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

/** A request on its way to an answer. */
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
  readonly begunAtMs: number;
  /** Whose key it has; null before that is known, and where apiKeys have none. */
  apiClient: ApiClient | null;
  /** The counted client address, or null; undefined before that is known. */
  client: string | null | undefined;
  /** Set when the service has no room for it. */
  refused: boolean;
  /** What the parser or a time limit found in its body. */
  fault: ErrorCode | null;
  reading: BodyReading | null;
  continued: boolean;
  answered: boolean;
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
    begunAtMs: routes.now(),
    requestId: ownRequestId(headers) ?? randomRequestId(),
    method: route?.methods.get(req.method ?? ''),
    apiClient: null, client: undefined, refused: false, fault: null, reading: null,
    continued: false,
    answered: false,
  };
}

/**
 * Finds the answer of an exchange whose turn has come.
 *
 * @returns the answer, or null when the client is gone and nothing shall be done for it
 */
export async function respondTo(
  exchange: Exchange,
  access: Access,
): Promise<HttpResponse | null> {
  const { req, headers, path, method } = exchange;
  const early = earlyAnswer(exchange, access);
  if (early !== null) return withHeaders(early, headersOf(exchange, access));
  if (expectsContinue(exchange)) {
    exchange.res.writeContinue();
    exchange.continued = true;
  }
  // After this turn the parser has handed over what came together with the header section.
  await null;
  const body = takeBody(req, headers.contentLength) ?? await awaitBody(exchange);
  if (body === null) return null;
  if (typeof body === 'string') {
    return withHeaders(closingErrorResponse(body), headersOf(exchange, access));
  }
  const client = clientOf(exchange, access);
  if (client === null) return null;
  if ('field' in client) return invalidField(client, headersOf(exchange, access));
  exchange.client = client.clientIp;
  return (method as MethodHandler).handle({
    path: path as string, body, keys: headers.keys, apiClient: client.apiClient,
    clientIp: client.clientIp,
    acceptLanguage: acceptedLanguages(headers), isConnected: () => req.socket.writable,
  });
}

/** Headers of every answer to a request that is given beside its handler. */
export function headersOf({ route, headers }: Exchange, { apiKeys }: Access): readonly string[] {
  return route?.headersFor(apiKeys === null || headers.clientIps.length > 0) ?? [];
}

type Client = Pick<HandlerInput, 'apiClient' | 'clientIp'>;

/**
 * Who sent a request, and from where. A caller with a key speaks for many clients: the address is
 * the one that it names, if any. Null when the client is gone.
 */
function clientOf(
  { req, headers, apiClient }: Exchange,
  { apiKeys, proxies }: Access,
): Client | FieldError | null {
  if (apiKeys === null) {
    const clientIp = forwardedClientIp(req.socket.remoteAddress, headers.forwardedFor, proxies);
    return clientIp === null ? null : { apiClient: null, clientIp };
  }
  if (req.socket.remoteAddress === undefined) return null;
  const address = clientIpFromHeader(headers.clientIps);
  if (typeof address === 'object' && address !== null) return address;
  return { apiClient: (apiClient as ApiClient).name, clientIp: address };
}

/** Reads what has not come yet; a fault that was found meanwhile ends it. */
function awaitBody(exchange: Exchange): Promise<BodyResult> {
  exchange.reading = readBody(exchange.req);
  if (exchange.fault !== null) exchange.reading.fail(exchange.fault);
  return exchange.reading.result;
}

/** What the header section alone decides, in the order of the contract; null to read on. */
function earlyAnswer(exchange: Exchange, { apiKeys }: Access): HttpResponse | null {
  const { req, headers, path, route, method } = exchange;
  if (exchange.refused) return SHED;
  const fault = framingError(req, headers);
  if (fault !== null) return fault;
  if (path === null) return closingErrorResponse('invalid_request');
  if (route === undefined) return errorResponse('not_found');
  if (method === undefined) return route.notAllowed;
  const refusal = apiKeys === null ? null : admit(exchange, apiKeys, method);
  if (refusal !== null) return refusal;
  if (hasExpectation(exchange) && !expectsContinue(exchange)) {
    return errorResponse('expectation_failed');
  }
  const mediaType = method.takesJson ? mediaTypeError(headers) : null;
  if (mediaType !== null) return mediaType;
  const tooLong = (headers.contentLength ?? 0) > BODY_MAX_BYTES;
  return tooLong ? closingErrorResponse('payload_too_large') : null;
}

/** Notes whose key a request has, or says why it is not let in; nothing of its body was read. */
function admit(
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
 * Whether the connection cannot be used again after an answer that is given now: what is left of
 * the body is without a bound, or the client may or may not send one that it asked leave for.
 */
export function mustCloseConnection(exchange: Exchange): boolean {
  const { contentLength, transferEncoding, upgrade } = exchange.headers;
  const chunked = transferEncoding !== '';
  // The parser throws away what follows a request with Upgrade and no body in the same packet.
  if (upgrade && !chunked && (contentLength ?? 0) === 0) return true;
  if (exchange.req.complete) return false;
  if (hasExpectation(exchange) && !exchange.continued) return true;
  return chunked || (contentLength ?? 0) > BODY_MAX_BYTES;
}
