import { setTimeout as sleep } from 'node:timers/promises';
import type { Hono } from 'hono';
import { NOT_ROUTED, type RoutingListener, type RoutingRecord } from '../index.ts';
import type { Api } from './api.ts';
import { ApiError, apiErrorOf, openAiBody } from './api-error.ts';
import { eventStream, type ServerEvent } from './event-stream.ts';
import type { ServedModel } from './served-model.ts';

/** Milliseconds between two events. */
const INTERVAL = 250;
/** Who may watch at once: each costs a little. */
const MOST_WATCHERS = 32;

/**
 * `/activity?model=NAME&routing=true`: four times a second how many requests run and wait and, with `routing`, where the model has sent tokens
 * since the last event, for as long as somebody reads.
 */
export function addActivityRoute(app: Hono, api: Api): void {
  let watchers = 0;
  app.get('/activity', (c) => {
    const served = api.model(c.req.query('model'));
    if (watchers >= MOST_WATCHERS)
      throw new ApiError(429, `${watchers} others are watching already`, { retryAfter: 10 });
    watchers++;
    const over = new AbortController();
    const left = () => {
      if (!over.signal.aborted) watchers--;
      over.abort();
    };
    const { pingInterval, onError } = api.settings;
    const failed = (error: unknown) => ({ data: openAiBody(apiErrorOf(error, onError)) });
    const events = activity(api, served, c.req.query('routing') === 'true', over.signal);
    return eventStream(events, pingInterval, failed, left);
  });
}

async function* activity(
  { gate }: Api,
  { model }: ServedModel,
  wantsRouting: boolean,
  signal: AbortSignal,
): AsyncGenerator<ServerEvent, void, undefined> {
  const { layers, experts } = model.routingHeader;
  const load = wantsRouting && layers.length > 0 ? new Load(layers.length, experts) : undefined;
  if (load) model.on('routing', load.listener);
  try {
    while (!signal.aborted && !gate.isClosed) {
      const routing = load ? { layers, experts, ...load.take() } : null;
      yield { data: { running: gate.running, waiting: gate.waiting, routing } };
      await sleep(INTERVAL, undefined, { signal }).catch(() => {});
    }
  } finally {
    if (load) model.off('routing', load.listener);
  }
}

/** Tokens by layer and expert. */
class Load {
  readonly listener: RoutingListener = (record) => this.#count(record);
  readonly #layers: number;
  readonly #experts: number;
  #tokens = 0;
  #load: number[][] = [];

  constructor(layers: number, experts: number) {
    this.#layers = layers;
    this.#experts = experts;
    this.take();
  }

  /** What has been counted since the last time. */
  take() {
    const taken = { tokens: this.#tokens, load: this.#load };
    this.#tokens = 0;
    this.#load = Array.from({ length: this.#layers }, () => new Array<number>(this.#experts).fill(0));
    return taken;
  }

  #count({ tokens, experts }: RoutingRecord): void {
    this.#tokens += tokens;
    const perToken = experts.length / (tokens * this.#layers);
    for (const [i, expert] of experts.entries()) {
      if (expert === NOT_ROUTED) continue;
      const row = this.#load[Math.floor(i / perToken) % this.#layers] as number[];
      row[expert] = (row[expert] as number) + 1;
    }
  }
}
