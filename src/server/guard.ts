import { createHash, timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { ApiError } from './api-error.ts';
import type { Settings } from './options.ts';

/** Refuses who has not the key. The comparison takes as long for any wrong key. */
export function requireKey({ apiKey }: Settings): MiddlewareHandler {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const wanted = apiKey === undefined ? undefined : digest(apiKey);
  return async (c, next) => {
    if (!wanted || c.req.method === 'OPTIONS') return next();
    const bearer = /^Bearer\s+(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
    const given = bearer ?? c.req.header('x-api-key');
    if (given !== undefined && timingSafeEqual(digest(given.trim()), wanted)) return next();
    throw new ApiError(
      401,
      given === undefined
        ? 'An API key is required: send it as Authorization: Bearer …'
        : 'The API key is wrong',
      {
        code: 'invalid_api_key',
      },
    );
  };
}

/**
 * Refuses requests that a page makes without being allowed to: under a name that is not the server's (which a page may have pointed to it), or
 * from an origin that is not listed.
 */
export function checkSource({ hosts, origins }: Settings): MiddlewareHandler {
  return async (c, next) => {
    const host = c.req.header('host') ?? '';
    const name = host.replace(/:\d+$/, '').toLowerCase();
    if (hosts && !hosts.includes(name))
      throw new ApiError(403, `The server does not answer to the host ${JSON.stringify(name)}`, {
        code: 'host_not_allowed',
      });
    const origin = c.req.header('origin');
    if (origin === undefined) return next();
    const isOwn = /^https?:\/\/(.+)$/.exec(origin)?.[1]?.toLowerCase() === host.toLowerCase();
    const isListed = origins.includes('*') || origins.includes(origin);
    if (!isOwn && !isListed)
      throw new ApiError(403, `Pages of ${origin} may not call this server; name it among its origins`, {
        code: 'origin_not_allowed',
      });
    if (isListed) {
      c.header('Access-Control-Allow-Origin', origins.includes('*') ? '*' : origin);
      c.header('Vary', 'Origin');
    }
    if (c.req.method !== 'OPTIONS') return next();
    c.header('Access-Control-Allow-Methods', 'GET, POST, OPTIONS');
    c.header('Access-Control-Allow-Headers', c.req.header('access-control-request-headers') ?? '*');
    c.header('Access-Control-Max-Age', '600');
    return c.body(null, 204);
  };
}
