import type { Context } from 'hono';
import { type AnswerEvent, answer } from './answer.ts';
import type { AnswerRequest } from './answer-request.ts';
import { ApiError, apiErrorOf, badField } from './api-error.ts';
import { eventStream, type ServerEvent } from './event-stream.ts';
import type { Gate } from './gate.ts';
import type { Metrics } from './metrics.ts';
import type { Settings } from './options.ts';
import type { ServedModel } from './served-model.ts';

export type AnswerEvents = AsyncGenerator<AnswerEvent, void, undefined>;

/** Prompts of one request. */
const MOST_PROMPTS = 64;

/** What endpoints share: the models, the limits, and how an answer is begun and told. */
export class Api {
  readonly settings: Settings;
  readonly gate: Gate;
  readonly metrics: Metrics;
  readonly models: ReadonlyMap<string, ServedModel>;

  constructor(models: ReadonlyMap<string, ServedModel>, settings: Settings, gate: Gate, metrics: Metrics) {
    this.models = models;
    this.settings = settings;
    this.gate = gate;
    this.metrics = metrics;
  }

  /** The model a request names; the first where it names none. @throws ApiError for one that is not served */
  model(name: string | undefined): ServedModel {
    const served = name === undefined ? [...this.models.values()][0] : this.models.get(name);
    if (served) return served;
    throw new ApiError(
      404,
      `The model ${JSON.stringify(name)} is not served; served are ${[...this.models.keys()].join(', ')}`,
      {
        code: 'model_not_found',
        param: 'model',
      },
    );
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

  /**
   * Has a model answer, once it is the request's turn, and responds with what `respond` makes of the answers.
   * @throws ApiError where the server is busy; what `generate` throws
   */
  async respond(
    c: Context,
    served: ServedModel,
    requests: readonly AnswerRequest[],
    respond: (answers: readonly AnswerEvents[]) => Promise<object>,
  ): Promise<Response> {
    const { signal } = c.req.raw;
    const leave = await this.gate.enter(signal);
    try {
      return c.json(await respond(requests.map((request) => this.#answer(served, request, signal))));
    } finally {
      leave();
    }
  }

  /** As `respond`, with events as they come. What is wrong with the request is found out before the first of them. */
  async stream(
    c: Context,
    served: ServedModel,
    requests: readonly AnswerRequest[],
    events: (answers: readonly AnswerEvents[]) => AsyncGenerator<ServerEvent, void, undefined>,
    failed: (error: ApiError) => ServerEvent,
  ): Promise<Response> {
    const abort = new AbortController();
    const signal = AbortSignal.any([c.req.raw.signal, abort.signal]);
    const leave = await this.gate.enter(signal);
    try {
      const answers = requests.map((request) => this.#answer(served, request, signal));
      const begun = await Promise.all(answers.map(begin));
      const left = () => {
        abort.abort();
        leave();
      };
      const tell = (error: unknown) => failed(apiErrorOf(error, this.settings.onError));
      return eventStream(events(begun), this.settings.pingInterval, tell, left);
    } catch (error) {
      abort.abort();
      leave();
      throw error;
    }
  }

  async *#answer(served: ServedModel, request: AnswerRequest, signal: AbortSignal): AnswerEvents {
    const started = performance.now();
    let isFirst = true;
    for await (const event of answer(served, request, signal)) {
      if (event.type !== 'start' && isFirst) {
        isFirst = false;
        this.metrics.firstToken.observe((performance.now() - started) / 1000);
      }
      if (event.type === 'end') this.metrics.answered(event.usage, event.finish);
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
