import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamPart,
  LanguageModelV3StreamResult,
} from '@ai-sdk/provider';
import { expected, InputError } from '../errors.ts';
import type { CausalLM, ImageTextToText } from '../index.ts';
import { checkOptions } from '../options.ts';
import { answer } from '../server/answer.ts';
import { inBlocks, wholeBlocks } from '../server/answer-blocks.ts';
import { contentOf, endingOf, partsOf } from './parts.ts';
import { PROVIDER, requestOf } from './request.ts';

export interface LanguageModelSettings {
  /** What the AI SDK calls the model in its records. Default: the repo or folder that it came from. */
  modelId?: string | undefined;
}

/**
 * A model as the AI SDK takes it (provider specification v3, package `ai` 6 and 7): `generateText({ model: languageModel(model), prompt })`. Texts,
 * objects, tools and reasoning stream; pictures go to models that see. It computes in this process: calls at the same time share passes.
 *
 * `providerOptions: { switchyard: { … } }` are options of `generate` that the AI SDK has no word for, such as `templateArguments:
 * { enable_thinking: false }`, `expertsImplementation` or `minP`. Without a temperature the model's own holds.
 *
 * @throws InputError for what is no model that generates
 */
export function languageModel(
  model: CausalLM | ImageTextToText,
  settings: LanguageModelSettings = {},
): LanguageModelV3 {
  if (typeof model?.generate !== 'function')
    throw new InputError(expected('languageModel: model', model, 'a model that generates'));
  checkOptions(settings, ['modelId'], 'languageModel');
  return new SwitchyardLanguageModel(model, settings.modelId ?? model.nameOrPath);
}

class SwitchyardLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = 'v3';
  readonly provider = PROVIDER;
  readonly modelId: string;
  /** The AI SDK fetches pictures, by its own rules. */
  readonly supportedUrls = {};
  readonly #model: CausalLM | ImageTextToText;

  constructor(model: CausalLM | ImageTextToText, modelId: string) {
    this.#model = model;
    this.modelId = modelId;
  }

  async doGenerate(options: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    const { events, warnings } = this.#answer(options);
    const { blocks, end } = await wholeBlocks(events).catch(asAborted(options.abortSignal));
    return {
      content: contentOf(blocks),
      ...endingOf(end),
      response: this.#response(),
      warnings,
    };
  }

  async doStream(options: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const { events, warnings, leave } = this.#answer(options);
    const parts = partsOf(inBlocks(events));
    // What is wrong with the call is found out before the first part.
    const first = await parts.next().catch(asAborted(options.abortSignal));
    const begun: LanguageModelV3StreamPart[] = [
      { type: 'stream-start', warnings },
      { type: 'response-metadata', ...this.#response() },
      ...(first.done ? [] : [first.value]),
    ];
    const stream = new ReadableStream<LanguageModelV3StreamPart>({
      async pull(controller) {
        const ready = begun.shift();
        if (ready) return controller.enqueue(ready);
        try {
          const { done, value } = await parts.next();
          if (!done) return controller.enqueue(value);
        } catch (error) {
          const { abortSignal } = options;
          controller.enqueue({ type: 'error', error: abortSignal?.aborted ? abortSignal.reason : error });
        }
        controller.close();
      },
      cancel() {
        leave();
        parts.return().catch(() => {});
      },
    });
    return { stream };
  }

  #answer(options: LanguageModelV3CallOptions) {
    const { request, warnings } = requestOf(options, this.#model);
    const served = { name: this.modelId, model: this.#model, created: 0 };
    const abort = new AbortController();
    const signals = [abort.signal, ...(options.abortSignal ? [options.abortSignal] : [])];
    const events = answer(served, request, AbortSignal.any(signals));
    return { events, warnings, leave: () => abort.abort() };
  }

  #response() {
    return { modelId: this.modelId, timestamp: new Date() };
  }
}

/** The AI SDK knows an aborted call by the reason of its signal, as `fetch` has it. */
function asAborted(signal: AbortSignal | undefined): (error: unknown) => never {
  return (error) => {
    throw signal?.aborted ? signal.reason : error;
  };
}
