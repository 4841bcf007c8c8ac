import { DecoderDecoding } from '../engine/decoding.ts';
import type { Prompt } from '../engine/sequence.ts';
import { type BackendReader, chooseBackend } from '../engine/tuning/policy.ts';
import { abortable } from '../errors.ts';
import { generate } from '../generation/generate.ts';
import type { GenerateOptions } from '../generation/generate-options.ts';
import { parseGenerationConfig } from '../generation/generation-config.ts';
import type { GenerateOutput } from '../generation/output.ts';
import { checkGenerateOptions } from '../generation/plan.ts';
import type { Prompts } from '../generation/prompt.ts';
import type { Decoding, DecodingRequest, Generator } from '../generation/types.ts';
import { checkOptions, noMore } from '../options.ts';
import type { ResidencyStats } from '../runtime/device.ts';
import type { Tensor } from '../runtime/ort.ts';
import {
  COMPILE_OPTIONS,
  type CompileMode,
  type CompileOptions,
  checkCompileMode,
  checkTokenCounts,
  isTuned,
  type Tuning,
  tune,
  usesGraphs,
} from './compile.ts';
import {
  checkForward,
  FORWARD_OPTIONS,
  type ForwardInputs,
  forwardPass,
  type Intermediates,
  LOGITS_OPTIONS,
} from './forward.ts';
import { type ExpertsImplementation, PreTrainedModel } from './pretrained-model.ts';

/** Result of `CausalLM.forward`. */
export interface CausalLMOutput extends Intermediates {
  /** fp32 [batch, positions kept, vocab] */
  logits: Tensor;
}

/** Result of `BaseModel.forward`. */
export interface BaseModelOutput extends Intermediates {
  /** After the final norm, fp32 [batch, positions, hidden]. */
  lastHiddenState: Tensor;
}

/** Arguments of `CausalLM.generate`: a batch padded on the left, and generation options. */
export type CausalLMGenerateOptions = GenerateOptions & { expertsImplementation?: ExpertsImplementation };

/** How a model computes at the moment. */
export interface ExecutionStats {
  /** `cpu`, or the name of the GPU. */
  readonly device: string;
  readonly compileMode: CompileMode;
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
  /** Weights on a GPU, and experts that were brought there on demand. */
  readonly residency?: ResidencyStats;
}

/** A decoder with a language-modelling head, whatever its prompts are made of. */
export abstract class GenerativeModel extends PreTrainedModel implements Generator {
  #mode: CompileMode = 'default';
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
    const { engine, expertsModel } = this.parts;
    const wantsTable = isTuned(mode) && expertsModel.hasExperts;
    this.tuning = await abortable(signal, 'compile', async () =>
      wantsTable ? tune(this.parts, counts, this.tuning, signal) : undefined,
    );
    engine.recording.enabled = usesGraphs(mode);
    this.#mode = mode;
  }

  /** What `--stats` tells besides the numbers of a generation. */
  get executionStats(): ExecutionStats {
    const { recording, weights } = this.parts.engine;
    return {
      device: weights?.device.name ?? 'cpu',
      compileMode: this.#mode,
      decodeBackend: chooseBackend(this.textBackend, { tokens: 1, phase: 'decode' }, this.policy),
      tuning: this.tuning,
      ...(weights && {
        graphs: { captures: recording.captures, replays: recording.replays, fault: recording.fault },
        residency: weights.stats,
      }),
    };
  }

  /** @internal */
  warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.parts.warn(message);
  }

  /** Opens a decoding for `generate`. @internal */
  async openDecoding(request: DecodingRequest): Promise<Decoding> {
    const { prompts, newTokens, expertsImplementation } = request;
    return new DecoderDecoding(
      this.parts.engine,
      prompts,
      newTokens,
      this.backendReader(expertsImplementation),
    );
  }

  protected async logits(
    prompts: readonly Prompt[],
    inputs: ForwardInputs,
    experts: BackendReader,
  ): Promise<CausalLMOutput> {
    const { main, ...rest } = await forwardPass(this.parts.engine, prompts, inputs, 'logits', experts);
    return { logits: main, ...rest };
  }

  /** @param prompts checked, with whatever the model has put into them */
  protected continue(prompts: Prompts, options: GenerateOptions): Promise<GenerateOutput> {
    const { json, file } = this.parts.generationConfig;
    const defaults = parseGenerationConfig(json, file);
    return generate(this, defaults, options, prompts);
  }
}

/** A decoder of text. Counterpart of HF `Qwen3MoeForCausalLM`. */
export class CausalLM extends GenerativeModel {
  /**
   * Logits of a batch of prompts, in one pass.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async forward(inputs: ForwardInputs, ...more: never[]): Promise<CausalLMOutput> {
    checkForward(inputs, more, LOGITS_OPTIONS);
    return abortable(inputs.signal, 'forward', async () => {
      const { rows } = this.prompts(inputs.inputIds, inputs.attentionMask);
      return this.logits(rows, inputs, this.backendReader(inputs.expertsImplementation));
    });
  }

  /**
   * Continues a batch of prompts. Options not given come from generation_config.json, then from the library's defaults.
   * @throws InputError for ids, masks or options out of range; AbortError with what was generated so far
   */
  async generate(options: CausalLMGenerateOptions, ...more: never[]): Promise<GenerateOutput> {
    checkGenerateOptions(options, more);
    return this.continue(this.prompts(options.inputIds, options.attentionMask), options);
  }
}

/** A decoder without a head. Counterpart of HF `Qwen3MoeModel`. */
export class BaseModel extends PreTrainedModel {
  /**
   * Hidden states of a batch of prompts, in one pass.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async forward(inputs: Omit<ForwardInputs, 'logitsToKeep'>, ...more: never[]): Promise<BaseModelOutput> {
    checkForward(inputs, more, FORWARD_OPTIONS);
    return abortable(inputs.signal, 'forward', () => this.#forward(inputs));
  }

  async #forward(inputs: ForwardInputs): Promise<BaseModelOutput> {
    const { rows } = this.prompts(inputs.inputIds, inputs.attentionMask);
    const experts = this.backendReader(inputs.expertsImplementation);
    const { main, ...rest } = await forwardPass(
      this.parts.engine,
      rows,
      inputs,
      'last_hidden_state',
      experts,
    );
    return { lastHiddenState: main, ...rest };
  }
}
