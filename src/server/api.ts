import type { Context } from 'hono';
import { type AnswerEvent, answer } from './answer.ts';
import type { AnswerRequest } from './answer-request.ts';
import { type ApiError, apiErrorOf, badField, defaultsError } from './api-error.ts';
import type { Bodies } from './bodies.ts';
import { eventStream, type ServerEvent } from './event-stream.ts';
import { withPictures } from './fetch-pictures.ts';
import type { Gate } from './gate.ts';
import type { Metrics } from './metrics.ts';
import type { ModelPool } from './model-pool.ts';
import type { Settings } from './options.ts';
import type { ServedModel } from './served-model.ts';

export type AnswerEvents = AsyncGenerator<AnswerEvent, void, undefined>;

/** Prompts of one request. */
const MOST_PROMPTS = 64;

/** A request as an API has it, and how that API tells the answers. */
export interface Exchange {
  /** The model that is asked for; the first where none is. */
  readonly model: string | undefined;
  readonly stream: boolean | undefined;
  /** What is asked of the model. @throws ApiError for what cannot be done */
  requests(served: ServedModel): readonly AnswerRequest[];
  /** The response to all answers. */
  whole(answers: readonly AnswerEvents[], served: ServedModel): Promise<object>;
  /** The events of the answers as they come. */
  events(answers: readonly AnswerEvents[], served: ServedModel): AsyncGenerator<ServerEvent, void, undefined>;
  /** What is sent of a failure in the midst of a stream. */
  failed(error: ApiError): ServerEvent;
}

/** What endpoints share: the models, the limits, and how an answer is begun and told. */
export class Api {
  readonly settings: Settings;
  readonly gate: Gate;
  readonly bodies: Bodies;
  readonly metrics: Metrics;
  readonly models: ModelPool;

  constructor(models: ModelPool, settings: Settings, gate: Gate, bodies: Bodies, metrics: Metrics) {
    this.models = models;
    this.settings = settings;
    this.gate = gate;
    this.bodies = bodies;
    this.metrics = metrics;
  }

  /** How many answers a request wants. */
  choices(n: number | undefined): number {
    const { maxChoices } = this.settings;
    if ((n ?? 1) <= maxChoices) return n ?? 1;
    throw badField('n', `is ${n}; at most ${maxChoices} answers are given to one request`);
  }

  /** Bounds the prompts of one request. */
  checkPrompts(count: number): void {
    if (count > MOST_PROMPTS)
      throw badField('prompt', `has ${count} prompts; at most ${MOST_PROMPTS} are taken at once`);
  }

  /** Uses a model for what takes no turn, such as counting tokens. @throws as `ModelPool.acquire` */
  async use<T>(c: Context, name: string | undefined, work: (served: ServedModel) => Promise<T>): Promise<T> {
    const { served, release } = await this.models.acquire(name, c.req.raw.signal);
    try {
      return await work(served);
    } finally {
      release();
    }
  }

  /**
   * Has a model answer, once it is the request's turn. What is wrong with a request is found out before a stream begins.
   * @throws ApiError where the server is busy; what `generate` and loading the model throw
   */
  async answer(c: Context, exchange: Exchange): Promise<Response> {
    this.models.state(exchange.model);
    const abort = new AbortController();
    const signal = AbortSignal.any([c.req.raw.signal, abort.signal]);
    const leave = await this.gate.enter(signal);
    let release: (() => void) | undefined;
    const left = () => {
      abort.abort();
      release?.();
      leave();
    };
    try {
      const lease = await this.models.acquire(exchange.model, signal);
      release = lease.release;
      const { served } = lease;
      const { pictureHosts: hosts, maxBody: maxBytes } = this.settings;
      const requests = await withPictures(exchange.requests(served), { hosts, maxBytes }, signal);
      const answers = requests.map((request) => this.#answer(served, request, signal));
      if (!exchange.stream) {
        const body = await exchange.whole(answers, served);
        left();
        return c.json(body);
      }
      const begun = await Promise.all(answers.map(begin));
      const tell = (error: unknown) => exchange.failed(apiErrorOf(error, this.settings.onError));
      const free = this.bodies.keep(c);
      return eventStream(exchange.events(begun, served), this.settings, tell, () => {
        left();
        free();
      });
    } catch (error) {
      left();
      throw release ? defaultsError(error) : error;
    }
  }

  async *#answer(served: ServedModel, request: AnswerRequest, signal: AbortSignal): AnswerEvents {
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    let firstText: number | undefined;
    for await (const event of answer(served, request, signal)) {
      if (event.type !== 'start') firstText ??= seconds();
      if (event.type === 'end') this.metrics.answered(served.name, event, firstText ?? seconds(), seconds());
      yield event;
    }
  }
}

/** The same events, once the first has come. */
async function begin(events: AnswerEvents): Promise<AnswerEvents> {
  const first = await events.next();
  return (async function* () {
    try {
      if (first.done) return;
      yield first.value;
      yield* events;
    } finally {
      await events.return();
    }
  })();
}
