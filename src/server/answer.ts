import type {
  CausalLMGenerateOptions,
  GenerateOutput,
  ParsedResponse,
  ResponseDelta,
  ResponseParser,
  RowRouting,
  Streamer,
  Tokenizer,
  TokenLogprobs,
} from '../index.ts';
import type { AnswerRequest } from './answer-request.ts';
import { badField } from './api-error.ts';
import { AsyncQueue } from './async-queue.ts';
import { promptOptions, type ServedModel } from './served-model.ts';
import { StopCutter } from './stop-cutter.ts';

/** An answer as it comes. */
export type AnswerEvent =
  | { readonly type: 'start'; readonly promptTokens: number }
  | (ResponseDelta & Scored)
  | ({ readonly type: 'end' } & AnswerEnd);

/** Log-probabilities of the tokens that have come since the last event, where they were asked for. */
export interface Scored {
  readonly logprobs?: readonly TokenLogprobs[] | undefined;
}

export interface AnswerEnd {
  readonly finish: 'stop' | 'length' | 'tool_calls';
  /** The stop string that ended it. */
  readonly stop: string | undefined;
  readonly message: ParsedResponse;
  /** Of each new token, where they were asked for. */
  readonly logprobs: readonly TokenLogprobs[] | undefined;
  /** Of these, the ones that no event has told of. */
  readonly lastLogprobs: readonly TokenLogprobs[] | undefined;
  /** Where its tokens went, where that was asked for. */
  readonly routing: RowRouting | undefined;
  readonly usage: Usage;
}

export interface Usage {
  readonly promptTokens: number;
  /** Of these, what an earlier answer had computed. */
  readonly cachedTokens: number;
  readonly newTokens: number;
  /** Of the new ones, those of reasoning. */
  readonly reasoningTokens: number;
  /** Tokens that were guessed, as where a schema leaves no choice, and how many of them were right. */
  readonly drafts: { readonly drafted: number; readonly accepted: number };
}

/**
 * Has a model answer. Reading ends it: who leaves the loop aborts the generation.
 * @throws what `generate` throws, where the first event would come if the request is at fault
 */
export async function* answer(
  served: ServedModel,
  request: AnswerRequest,
  signal: AbortSignal,
): AsyncGenerator<AnswerEvent, void, undefined> {
  const { model } = served;
  const { prompt, tools, thinkingBudget, options } = request;
  const tokenizer = await model.tokenizer();
  const abort = new AbortController();
  const stops = request.stops ?? defaultStops(model.generationDefaults);
  if (request.keepsStop && stops.length === 0)
    throw badField('include_stop_str_in_output', 'has no effect without stop; give that, or leave it out');
  const reader = new AnswerReader(tokenizer, request, stops);
  model
    .generate({
      ...options,
      ...promptOptions(prompt),
      ...(tools && { tools }),
      ...(thinkingBudget !== undefined && reasons(tokenizer) && { thinkingBudget }),
      tokenizer,
      streamer: reader,
      stoppingCriteria: [() => reader.hasStopped],
      signal: AbortSignal.any([signal, abort.signal]),
    } as CausalLMGenerateOptions)
    .then(
      (output) => reader.finish(output),
      (error: unknown) => reader.events.end({ error }),
    );
  try {
    yield* reader.events;
  } finally {
    abort.abort();
  }
}

/** Whether the tokenizer is one of a model that reasons: others keep any budget. */
function reasons(tokenizer: Tokenizer): boolean {
  const { reasoning } = tokenizer.responseStyle;
  return [reasoning?.open, reasoning?.close].every(
    (tag) => tag !== undefined && tokenizer.tokenToId(tag) !== undefined,
  );
}

function defaultStops({ stopStrings }: ServedModel['model']['generationDefaults']): readonly string[] {
  return [stopStrings ?? []].flat();
}

/** Makes events of the tokens of one row. */
class AnswerReader implements Streamer {
  readonly events = new AsyncQueue<AnswerEvent>();
  readonly #tokenizer: Tokenizer;
  readonly #request: AnswerRequest;
  readonly #stop: StopCutter;
  readonly #detokenizer;
  #parser: ResponseParser | undefined;
  #isPrompt = true;
  #content = '';
  /** Log-probabilities that no event has told of. */
  #unsaid: TokenLogprobs[] = [];
  #promptTokens = 0;
  #newTokens = 0;
  #reasoningTokens = 0;

  constructor(tokenizer: Tokenizer, request: AnswerRequest, stops: readonly string[]) {
    this.#tokenizer = tokenizer;
    this.#request = request;
    this.#stop = new StopCutter(stops, request.keepsStop);
    this.#detokenizer = tokenizer.detokenizer({ skipSpecialTokens: true });
  }

  /** Whether a stop string has come. */
  get hasStopped(): boolean {
    return this.#stop.found !== undefined;
  }

  put(ids: readonly number[], logprobs?: TokenLogprobs): void {
    if (logprobs) this.#unsaid.push(logprobs);
    if (this.#isPrompt) this.#begin(ids);
    else for (const id of ids) this.#take(id);
  }

  #take(id: number): void {
    this.#newTokens++;
    if (this.#parser?.reasoning === 'inside') this.#reasoningTokens++;
    this.#read(this.#detokenizer.push(id));
  }

  end(): void {}

  finish(output: GenerateOutput): void {
    const [reason] = output.finishReasons;
    const isCut = reason === 'length' || reason === 'time';
    this.#read(this.#detokenizer.flush());
    for (const delta of this.#parser?.end(isCut) ?? []) this.#tell(delta);
    if (!this.hasStopped) this.#say(this.#stop.flush());
    const parsed = this.#parser?.message ?? { role: 'assistant', content: '' };
    this.events.push({
      type: 'end',
      // A call that the limit has cut is no call to be made.
      finish: isCut ? 'length' : parsed.tool_calls ? 'tool_calls' : 'stop',
      stop: this.#stop.found,
      message: { ...parsed, content: this.#content },
      logprobs: output.logprobs?.[0],
      lastLogprobs: output.logprobs && this.#unsaid,
      routing: output.routedExperts?.[0],
      usage: {
        promptTokens: this.#promptTokens,
        cachedTokens: output.stats.cachedTokens,
        newTokens: this.#newTokens,
        reasoningTokens: this.#reasoningTokens,
        drafts: output.stats.drafts ?? { drafted: 0, accepted: 0 },
      },
    });
    this.events.end();
  }

  #begin(ids: readonly number[]): void {
    this.#isPrompt = false;
    this.#promptTokens = ids.length;
    if ('messages' in this.#request.prompt) {
      const { tools } = this.#request;
      const isFree = this.#request.options.toolChoice === 'none';
      const prompt = this.#tokenizer.decode(ids, { unknownIds: 'skip' });
      this.#parser = this.#tokenizer.responseParser({ prompt, tools: isFree ? [] : (tools ?? []) });
    }
    this.events.push({ type: 'start', promptTokens: ids.length });
  }

  #read(text: string): void {
    if (text === '') return;
    if (!this.#parser) this.#say(this.#cut(text));
    else for (const delta of this.#parser.push(text)) this.#tell(delta);
  }

  #tell(delta: ResponseDelta): void {
    if (delta.type === 'content') this.#say(this.#cut(delta.text));
    else this.#push(delta);
  }

  /** As in vLLM, nothing ends an answer before its least number of tokens, and what then stands there is no stop. */
  #cut(text: string): string {
    return this.#stop.push(text, this.#newTokens > (this.#request.options.minNewTokens ?? 0));
  }

  #say(text: string): void {
    if (text === '') return;
    this.#content += text;
    this.#push({ type: 'content', text });
  }

  #push(delta: ResponseDelta): void {
    const logprobs = this.#unsaid;
    this.#unsaid = [];
    this.events.push(logprobs.length > 0 ? { ...delta, logprobs } : delta);
  }
}

/** The whole of an answer. */
export async function wholeAnswer(events: AsyncIterable<AnswerEvent>): Promise<AnswerEnd> {
  let end: AnswerEnd | undefined;
  for await (const event of events) if (event.type === 'end') end = event;
  if (!end) throw new Error('an answer ended without its end');
  return end;
}
