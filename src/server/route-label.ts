import type { Context } from 'hono';
import { matchedRoutes } from 'hono/route';

/** What all requests are called for which there is no route. */
const OTHER = 'other';
const NAME = 'route';

/** The route of a request as it was added, so that no client makes up names. */
export function routeOf(c: Context): string {
  const named: unknown = c.get(NAME);
  if (typeof named === 'string') return named;
  // What is added for all requests is no route of one.
  return matchedRoutes(c).findLast(({ path }) => !path.endsWith('*'))?.path ?? OTHER;
}

/** Names the route of a request that one added for all of them has answered. */
export function nameRoute(c: Context, name: string): void {
  c.set(NAME, name);
}
