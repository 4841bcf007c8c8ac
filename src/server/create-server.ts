import { randomUUID } from 'node:crypto';
import { Hono } from 'hono';
import { addActivityRoute } from './activity.ts';
import { addAnthropicRoutes } from './anthropic/routes.ts';
import { Api } from './api.ts';
import { ApiError, anthropicBody, apiErrorOf, openAiBody } from './api-error.ts';
import { Bodies } from './bodies.ts';
import { Gate } from './gate.ts';
import { checkSource, requireKey } from './guard.ts';
import { Metrics } from './metrics.ts';
import { ModelPool, type Servable } from './model-pool.ts';
import { addOpenAiRoutes } from './openai/routes.ts';
import { type ServerOptions, settingsOf } from './options.ts';
import { addPage } from './page.ts';
import { routeOf } from './route-label.ts';
import { addTokenRoutes } from './tokens.ts';

/** What a client may call its request. */
const WORD = /^[!-~]{1,128}$/;

/** A server that is not bound to any port yet. */
export interface Server {
  /** To be mounted in an application of hono, or served by `@hono/node-server`. */
  readonly app: Hono;
  /**
   * Takes no more requests, and resolves when those it has taken are answered and models that it has loaded on demand are gone. The others
   * stay.
   */
  drain(): Promise<void>;
}

/**
 * Makes an HTTP server of models that are loaded, or will be when they are asked for: OpenAI's API and what goes with it. It opens no port.
 *
 * @throws InputError for options out of range, two models of one name, and a model that takes more than `maxModelBytes`; ConfigError where
 *   generation_config.json of a loaded model has settings that will not do
 */
export function createServer(models: Servable | readonly Servable[], options: ServerOptions = {}): Server {
  const settings = settingsOf(options);
  const pool = new ModelPool([models].flat() as Servable[], settings.maxModelBytes);
  const gate = new Gate(settings.maxRunning, settings.maxWaiting);
  const names = pool.states.map(({ name }) => name);
  const metrics = new Metrics(gate, settings.vllmMetrics ? names : undefined);
  const bodies = new Bodies(settings.maxBody, settings.maxBodies);
  const api = new Api(pool, settings, gate, bodies, metrics);
  const app = new Hono();

  app.use(async (c, next) => {
    const started = performance.now();
    const id = c.req.header('x-request-id') ?? '';
    c.header('x-request-id', WORD.test(id) ? id : randomUUID());
    await next();
    metrics.responded(routeOf(c), c.res.status, (performance.now() - started) / 1000);
  });
  app.use(checkSource(settings));
  app.get('/health', (c) => c.json({ status: 'ok' }));
  app.get('/ready', (c) =>
    gate.isClosed ? c.json({ status: 'draining' }, 503) : c.json({ status: 'ready' }),
  );
  if (settings.page) addPage(app);
  // Probes have no key, and the page asks for one.
  app.use(requireKey(settings));
  app.use(bodies.release);
  app.onError((error, c) => {
    const told = apiErrorOf(error, settings.onError);
    if (told.retryAfter !== undefined) c.header('retry-after', String(told.retryAfter));
    // Wherever it is mounted.
    const isAnthropic = /\/v1\/messages(?:\/|$)/.test(c.req.path);
    return c.json(isAnthropic ? anthropicBody(told) : openAiBody(told), told.status as 400);
  });
  app.notFound((c) => {
    throw new ApiError(404, `There is no ${c.req.method} ${c.req.path}`);
  });

  app.get('/metrics', async (c) =>
    c.body(await metrics.text(), 200, { 'content-type': metrics.contentType }),
  );
  addOpenAiRoutes(app, api);
  addAnthropicRoutes(app, api);
  addTokenRoutes(app, api);
  addActivityRoute(app, api);
  return { app, drain: () => gate.close().then(() => pool.dispose()) };
}
