import { DecoderDecoding, type SequenceKeeper } from '../engine/decoding.ts';
import type { Prompt } from '../engine/sequence.ts';
import { type BackendReader, chooseBackend } from '../engine/tuning/policy.ts';
import { abortable, abortIf, InputError, unlessAborted } from '../errors.ts';
import { ANSWER_OPTIONS } from '../generation/answer-options.ts';
import { generate } from '../generation/generate.ts';
import type { GenerateOptions } from '../generation/generate-options.ts';
import { parseGenerationConfig } from '../generation/generation-config.ts';
import { GenerationStream, SinkStreamer } from '../generation/generation-stream.ts';
import type { TokenLogprobs } from '../generation/logprobs.ts';
import type { GenerateOutput } from '../generation/output.ts';
import type { GenerationConfig } from '../generation/parameters.ts';
import { checkGenerateOptions } from '../generation/plan.ts';
import type { Prompts } from '../generation/prompt.ts';
import { refuseStreamer } from '../generation/streaming.ts';
import type { Decoding, DecodingRequest, Generator } from '../generation/types.ts';
import { checkInputs, checkOptions, isSignal, noMore, snakeCase } from '../options.ts';
import type { Tensor } from '../runtime/ort.ts';
import type { ResidencyStats } from '../runtime/residency.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { checkCache } from './cache.ts';
import { Chat, type ChatOptions, checkChatOptions } from './chat.ts';
import {
  COMPILE_OPTIONS,
  type CompileMode,
  type CompileOptions,
  checkCompileMode,
  checkTokenCounts,
  isTuned,
  MEASURE_OPTIONS,
  type MeasureOptions,
  retune,
  type Tuning,
  tune,
  usesGraphs,
} from './compile.ts';
import { type ForwardInputs, forwardPass, type Intermediates } from './forward.ts';
import type { CausalLMGenerateOptions } from './generate-options.ts';
import type { ModelWeights, PinnedExpertsStats } from './model-parts.ts';
import { PreTrainedModel } from './pretrained-model.ts';
import { PROMPT_LOGPROBS_OPTIONS, type PromptLogprobsInputs, scorePrompts } from './prompt-logprobs.ts';
import { PROMPT_OPTIONS, promptKind, readNegativePrompt, readPrompt } from './prompt-options.ts';

/** Result of `forward` of a model with a head. */
export interface CausalLMOutput extends Intermediates {
  /** fp32 [batch, positions kept, vocab] */
  logits: Tensor<'float32'>;
}

/** How a model computes at the moment. */
export interface ExecutionStats {
  /** `cpu`, or the name of the GPU. */
  readonly device: string;
  readonly compileMode: CompileMode;
  /** `int8` where activations are rounded when they meet weights of whole numbers. */
  readonly activationQuantization: 'int8' | 'none';
  /** The experts backend that a decode step of a single row runs on. */
  readonly decodeBackend: string;
  readonly tuning: Tuning | undefined;
  /** Decode steps recorded on a GPU, and why those of some backends are not where that was asked for. */
  readonly graphs?: {
    readonly captures: number;
    /** Steps that a recording has executed. */
    readonly replays: number;
    readonly fault: string | undefined;
  };
  /** How often a generation has given up what it had computed, because `maxCacheBytes` was met, and has computed it again. */
  readonly preemptions: number;
  /** Weights on a GPU, or in memory under `maxMemory`, and experts that were brought there on demand. */
  readonly residency?: ResidencyStats;
  /** With `pinnedExperts`. */
  readonly pinnedExperts?: PinnedExpertsStats;
}

/** How often a model measures again for `auto`. */
const MOST_RETUNINGS = 3;

/** A decoder with a language-modelling head, whatever its prompts are made of. */
export abstract class GenerativeModel<O extends CausalLMGenerateOptions = CausalLMGenerateOptions>
  extends PreTrainedModel
  implements Generator
{
  #mode: CompileMode = 'default';
  #measuring: Promise<void> | undefined;
  #retunings = 0;
  #compiling: Promise<void> = Promise.resolve();
  readonly #warned = new Set<string>();

  get vocabSize(): number {
    return this.parts.model.vocabSize;
  }

  /** The mode that `compile` set last. */
  get compileMode(): CompileMode {
    return this.#mode;
  }

  /**
   * Counterpart of `torch.compile`. `reduce-overhead` replays decode steps as CUDA graphs; `max-autotune` does so too and finds out
   * which experts backend is fastest for how many tokens, for models set to `grouped_mm`; `max-autotune-no-cudagraphs` only the
   * latter; `default` neither. Without a GPU there are no graphs. What was measured is kept in a file for the next time.
   *
   * May be called at any time, and again with another mode; it takes effect at the next pass.
   * @throws InputError for an unknown mode or impossible token counts; AbortError; the mode stays as it was then
   */
  async compile(options: CompileOptions = {}, ...rest: never[]): Promise<void> {
    checkOptions(options, COMPILE_OPTIONS, 'compile');
    noMore(rest, 'compile', 'options go into the first');
    const work = this.#compiling.then(() => this.#compile(options));
    this.#compiling = work.catch(() => {});
    await work;
  }

  async #compile(options: CompileOptions): Promise<void> {
    const { signal } = options;
    const mode = checkCompileMode(options.mode ?? 'default');
    const counts = checkTokenCounts(options.tokenCounts, this.contextLength);
    if (options.tokenCounts !== undefined && !isTuned(mode))
      throw new InputError(
        `compile: tokenCounts say what max-autotune measures, but the mode is ${mode}. Set mode: 'max-autotune', or leave them out`,
      );
    const { engine, expertsModel } = this.parts;
    const wantsTable = isTuned(mode) && expertsModel.hasExperts;
    this.tuning = await abortable(signal, 'compile', async () =>
      wantsTable ? tune(this.parts, counts, this.tuning, options) : undefined,
    );
    engine.recording.enabled = usesGraphs(mode);
    this.#mode = mode;
  }

  /**
   * Measures now what `auto` goes by, which otherwise its first use does: which experts backend is fastest for how many tokens, in at most
   * half a minute. What was measured is kept in a file for the next time. Calls that come meanwhile wait for the first.
   * @returns undefined for a model without experts
   * @throws AbortError
   */
  async measureExperts(options: MeasureOptions = {}, ...rest: never[]): Promise<Tuning | undefined> {
    checkOptions(options, MEASURE_OPTIONS, 'measureExperts');
    noMore(rest, 'measureExperts', 'options go into the first');
    abortIf(options.signal, 'measureExperts');
    await this.measureForAuto(options.signal, options.onProgress);
    return this.autoTuning;
  }

  protected override async measureForAuto(
    signal: AbortSignal | undefined,
    onProgress?: MeasureOptions['onProgress'],
  ): Promise<void> {
    const { autoTuning } = this;
    if (!this.parts.expertsModel.hasExperts || (autoTuning && this.#misjudged(autoTuning).length === 0))
      return;
    this.#measuring ??= this.#measure({ ...(onProgress && { onProgress }) }).finally(() => {
      this.#measuring = undefined;
    });
    // Who leaves does not stop it for the others.
    await unlessAborted(signal, 'measuring the experts backends', this.#measuring);
  }

  async #measure(options: MeasureOptions): Promise<void> {
    const { autoTuning } = this;
    if (autoTuning) {
      this.#retunings++;
      this.autoTuning = await retune(this.parts, autoTuning, this.#misjudged(autoTuning));
    } else {
      const counts = checkTokenCounts(undefined, this.contextLength);
      this.autoTuning = await tune(this.parts, counts, this.tuning, options);
    }
  }

  /** Token counts that were measured at a bad time, as passes since then show. A GPU replays recorded steps, which are faster than measured ones. */
  #misjudged({ table }: Tuning): number[] {
    const { passTimes, weights } = this.parts.engine;
    return weights || this.#retunings >= MOST_RETUNINGS ? [] : passTimes.fasterThan(table);
  }

  /** What `--stats` tells besides the numbers of a generation. */
  get executionStats(): ExecutionStats {
    const { recording, weights, preemptions, int8Activations, residency } = this.parts.engine;
    const pinnedExperts = this.parts.pinned?.();
    return {
      device: weights?.device.name ?? 'cpu',
      compileMode: this.#mode,
      activationQuantization: int8Activations ? 'int8' : 'none',
      decodeBackend: chooseBackend(this.textBackend, { tokens: 1, phase: 'decode' }, this.policy),
      tuning: this.tuning ?? this.autoTuning,
      preemptions,
      ...(weights && {
        graphs: { captures: recording.captures, replays: recording.replays, fault: recording.fault },
      }),
      ...(residency && { residency }),
      ...(pinnedExperts && { pinnedExperts }),
    };
  }

  /** Its weights as they are stored, and what each has to do with a token. @internal */
  stored(): ModelWeights {
    return { weights: this.parts.weights, work: this.parts.model.work };
  }

  /** @internal */
  warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.parts.warn(message);
  }

  /** Opens a decoding for `generate`. @internal */
  async openDecoding(request: DecodingRequest): Promise<Decoding> {
    const { prompts, newTokens, expertsImplementation, returnRoutedExperts = false, cache, rows } = request;
    if (returnRoutedExperts) this.assertRouted();
    const { engine } = this.parts;
    const experts = await this.backendReader(expertsImplementation);
    if (cache !== undefined) checkCache(cache, 'generate');
    const keeper = cache?.lend(engine, 'generate');
    try {
      const options = { rows, routing: returnRoutedExperts, keeper };
      return new DecoderDecoding(engine, prompts, newTokens, experts, options);
    } catch (error) {
      keeper?.end();
      throw error;
    }
  }

  protected async logits(
    prompts: readonly Prompt[],
    inputs: ForwardInputs,
    experts: BackendReader,
    keeper?: SequenceKeeper,
  ): Promise<CausalLMOutput> {
    const { engine } = this.parts;
    const { main, ...rest } = await forwardPass(engine, prompts, inputs, 'logits', experts, keeper);
    return { logits: main, ...rest };
  }

  /**
   * How likely the model takes each token of prompts of text to be after those before it: natural logarithms of softmax(logits), as `forward`
   * gives these. Of each row without its padding an entry a token; null for the first, before which there is nothing.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async promptLogprobs(inputs: PromptLogprobsInputs, ...more: never[]): Promise<(TokenLogprobs | null)[][]> {
    checkInputs(inputs, more, PROMPT_LOGPROBS_OPTIONS, 'promptLogprobs');
    const { engine, prompts } = this.parts;
    return abortable(inputs.signal, 'promptLogprobs', async () => {
      const { rows } = this.prompts(inputs.inputIds, inputs.attentionMask);
      const known = { ...inputs, tokenizer: inputs.tokenizer ?? prompts.tokenizer };
      const experts = await this.backendReader(inputs.expertsImplementation, inputs.signal);
      return scorePrompts(engine, rows, known, experts);
    });
  }

  /**
   * Continues a batch of prompts, a text or a conversation. Options not given come from generation_config.json, then from the library's
   * defaults.
   * @throws InputError for ids, masks or options out of range; TokenizerError; AbortError with what was generated so far
   */
  async generate(options: O, ...more: never[]): Promise<GenerateOutput> {
    const ready = await this.#ready(options, more).catch(async (error: unknown) => {
      await refuseStreamer(options, error);
      throw error;
    });
    return generate(this, ...ready);
  }

  /** What `generate` is given: prompts as ids, with all that they need. */
  async #ready(options: O, more: readonly never[]): Promise<[GenerationConfig, GenerateOptions, Prompts]> {
    checkGenerateOptions(options, more, [...PROMPT_OPTIONS, ...this.inputOptions]);
    abortIf(options.signal, 'generate');
    const kind = promptKind(options, ['attentionMask', ...this.inputOptions], 'generate');
    // With the signal of the call, so that it need not wait for what `auto` measures.
    await this.backendReader(options.expertsImplementation, options.signal);
    const tokenizer = await this.#tokenizerFor(options, kind !== 'inputIds');
    const inputs =
      kind === 'inputIds' || !tokenizer ? options : await readPrompt(options, this.parts.prompts, tokenizer);
    const prompts = await abortable(options.signal, 'generate', () =>
      this.prepare({ ...options, ...inputs }),
    );
    const negative = await this.#negative(options, prompts, tokenizer);
    const left: ReadonlySet<string> = new Set([...PROMPT_OPTIONS, ...this.inputOptions]);
    const rest = Object.fromEntries(Object.entries(options).filter(([name]) => !left.has(name)));
    return [
      this.generationDefaults,
      { ...rest, ...this.#oneRow(options), inputIds: prompts.given, tokenizer },
      { ...prompts, ...negative },
    ];
  }

  /** What a call that streams needs where generation_config.json alone asks for several sequences of a prompt. */
  #oneRow(options: O): GenerationConfig {
    if (options.streamer === undefined) return {};
    const stray = (['numBeams', 'numReturnSequences'] as const).filter(
      (name) =>
        (options[name] ?? options.generationConfig?.[name]) === undefined &&
        (this.generationDefaults[name] ?? 1) > 1,
    );
    for (const name of stray)
      this.warnOnce(
        `${this.parts.generationConfig.file}: ${snakeCase(name)} is ${this.generationDefaults[name]}, but answers that are streamed are ` +
          'one sequence each; it is taken as 1 for them. generate without a streamer heeds it',
      );
    return Object.fromEntries(stray.map((name) => [name, 1]));
  }

  /** What rows with guidance lead away from, as the model takes it; by default the last token of each. */
  async #negative(
    options: O,
    { rows }: Prompts,
    tokenizer: Tokenizer | undefined,
  ): Promise<Pick<Prompts, 'negative'>> {
    const { negativePrompt, negativePromptIds, generationConfig } = options;
    if (negativePrompt !== undefined && negativePromptIds !== undefined)
      throw new InputError('negativePrompt and negativePromptIds exclude each other; give one of them');
    const scale =
      options.guidanceScale ?? generationConfig?.guidanceScale ?? this.generationDefaults.guidanceScale ?? 1;
    if (scale === 1 && negativePrompt === undefined) return {};
    if (scale === 1)
      throw new InputError('negativePrompt has no effect without guidanceScale. Set that, or leave it out');
    if (negativePrompt !== undefined && tokenizer) {
      const read = await readNegativePrompt(options, this.parts.prompts, tokenizer);
      return { negative: this.negativePrompts(read, 'negativePrompt') };
    }
    const ids = negativePromptIds ?? rows.map((row) => row.ids.slice(-1));
    return { negative: this.negativePrompts(ids, 'negativePromptIds') };
  }

  /**
   * As `generate` for one row, whose text is read as it comes: `for await (const text of model.stream({ prompt }))`. Leaving the loop
   * aborts it; `output` is the whole result.
   */
  stream(options: O, ...more: never[]): GenerationStream {
    noMore(more, 'stream', 'options stand inside the first');
    if ((options as Partial<O> | undefined)?.streamer !== undefined)
      throw new InputError('stream is read by its loop and takes no streamer; give that to generate');
    return new GenerationStream(
      async (sink, signal) => {
        checkGenerateOptions(options, [], [...PROMPT_OPTIONS, ...this.inputOptions]);
        const tokenizer = options.tokenizer ?? (await this.tokenizer());
        return this.generate({ ...options, tokenizer, streamer: new SinkStreamer(tokenizer, sink), signal });
      },
      // What is no signal is refused with the other options.
      isSignal(options?.signal) ? options.signal : undefined,
    );
  }

  /**
   * Opens a conversation that remembers what has been said: `const chat = await model.chat({ system })`, then `await chat.send('…')` or
   * `for await (const text of chat.stream('…'))`. Options of `generate` given here hold for every answer.
   * @throws InputError; HubError, TokenizerError where the tokenizer cannot be loaded
   */
  async chat(options: ChatOptions = {}, ...more: never[]): Promise<Chat> {
    checkChatOptions(options);
    const { system: _, ...rest } = options;
    checkGenerateOptions(rest, more, PROMPT_OPTIONS, 'chat');
    return new Chat(this, options.tokenizer ?? (await this.tokenizer()), options);
  }

  /** The model's tokenizer, loaded once. @throws HubError; TokenizerError */
  tokenizer(): Promise<Tokenizer> {
    return this.parts.prompts.loadTokenizer();
  }

  /** Options of `generate` that say what a prompt consists of besides ids. */
  protected get inputOptions(): readonly string[] {
    return [];
  }

  /** Checked prompts, with whatever the model puts into them. */
  protected abstract prepare(inputs: O): Promise<Prompts>;

  /** What generation_config.json says; members throw ConfigError where it will not do. @internal */
  get generationDefaults(): GenerationConfig {
    const { json, file } = this.parts.generationConfig;
    return parseGenerationConfig(json, file);
  }

  /** The tokenizer of a call: its own, or the model's, which is loaded only where the call cannot do without. */
  async #tokenizerFor(options: O, isText: boolean): Promise<Tokenizer | undefined> {
    if (options.tokenizer !== undefined) return options.tokenizer;
    const stops =
      options.stopStrings ?? options.generationConfig?.stopStrings ?? this.generationDefaults.stopStrings;
    const budget = options.thinkingBudget ?? options.generationConfig?.thinkingBudget;
    const needsText =
      isText ||
      options.negativePrompt !== undefined ||
      typeof budget === 'number' ||
      typeof options.streamer === 'function' ||
      (stops ?? []).length > 0 ||
      ANSWER_OPTIONS.some((name) => options[name] !== undefined);
    return needsText ? this.tokenizer() : this.parts.prompts.tokenizer;
  }
}
