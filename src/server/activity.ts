import { setTimeout as sleep } from 'node:timers/promises';
import type { Hono } from 'hono';
import {
  type CausalLM,
  type ImageTextToText,
  NOT_ROUTED,
  type RoutingListener,
  type RoutingRecord,
} from '../index.ts';
import type { Api } from './api.ts';
import { ApiError, apiErrorOf, openAiBody } from './api-error.ts';
import { eventStream, type ServerEvent } from './event-stream.ts';

type Model = CausalLM | ImageTextToText;

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
    const { name } = api.models.state(c.req.query('model'));
    if (watchers >= MOST_WATCHERS)
      throw new ApiError(429, `${watchers} others are watching already`, { retryAfter: 10 });
    watchers++;
    const over = new AbortController();
    const left = () => {
      if (!over.signal.aborted) watchers--;
      over.abort();
    };
    const failed = (error: unknown) => ({ data: openAiBody(apiErrorOf(error, api.settings.onError)) });
    const events = activity(api, name, c.req.query('routing') === 'true', over.signal);
    return eventStream(events, api.settings, failed, left);
  });
}

async function* activity(
  { gate, models }: Api,
  name: string,
  wantsRouting: boolean,
  signal: AbortSignal,
): AsyncGenerator<ServerEvent, void, undefined> {
  const watch = new RoutingWatch();
  try {
    while (!signal.aborted && !gate.isClosed) {
      // A model on demand comes and goes, and is not kept for those who only look.
      if (wantsRouting) watch.follow(models.state(name).model);
      yield { data: { running: gate.running, waiting: gate.waiting, routing: watch.take() } };
      await sleep(INTERVAL, undefined, { signal }).catch(() => {});
    }
  } finally {
    watch.follow(undefined);
  }
}

/** Counts where the tokens of a model go. */
class RoutingWatch {
  readonly #listener: RoutingListener = (record) => this.#load?.count(record);
  #model: Model | undefined;
  #load: Load | undefined;

  /** Listens to this one from now on. */
  follow(model: Model | undefined): void {
    if (model === this.#model) return;
    if (this.#load) this.#model?.off('routing', this.#listener);
    this.#model = model;
    const { layers, experts } = model?.routingHeader ?? { layers: [], experts: 0 };
    this.#load = layers.length > 0 ? new Load(layers, experts) : undefined;
    if (this.#load) model?.on('routing', this.#listener);
  }

  /** What has been counted since the last time; null where nothing is routed. */
  take() {
    return this.#load?.take() ?? null;
  }
}

/** Tokens by layer and expert. */
class Load {
  readonly #layers: readonly number[];
  readonly #experts: number;
  #tokens = 0;
  #load: number[][] = [];

  constructor(layers: readonly number[], experts: number) {
    this.#layers = layers;
    this.#experts = experts;
    this.take();
  }

  take() {
    const taken = { layers: this.#layers, experts: this.#experts, tokens: this.#tokens, load: this.#load };
    this.#tokens = 0;
    this.#load = this.#layers.map(() => new Array<number>(this.#experts).fill(0));
    return taken;
  }

  count({ tokens, experts }: RoutingRecord): void {
    this.#tokens += tokens;
    const perToken = experts.length / (tokens * this.#layers.length);
    for (const [i, expert] of experts.entries()) {
      if (expert === NOT_ROUTED) continue;
      const row = this.#load[Math.floor(i / perToken) % this.#layers.length] as number[];
      row[expert] = (row[expert] as number) + 1;
    }
  }
}
