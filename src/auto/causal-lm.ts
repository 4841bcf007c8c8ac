import { type GenerateOptions, type GenerateOutput, generate } from '../generation/generate.ts';
import { parseGenerationConfig } from '../generation/generation-config.ts';
import type { Decoding, DecodingRequest, Generator } from '../generation/types.ts';
import type { Tensor } from '../runtime/ort.ts';
import { DecoderDecoding } from './decoding.ts';
import { type ForwardInputs, forwardPass, type Intermediates } from './forward.ts';
import { type ExpertsImplementation, PreTrainedModel } from './model.ts';
import type { Prompt } from './prompt.ts';

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

/** A decoder with a language-modelling head, whatever its prompts are made of. */
export abstract class GenerativeModel extends PreTrainedModel implements Generator {
  get vocabSize(): number {
    return this.parts.decoder.config.vocab_size;
  }

  /** Opens a decoding for `generate`. */
  async openDecoding(request: DecodingRequest): Promise<Decoding> {
    const prompts = this.decodingPrompts(request);
    const experts = this.backendReader(request.expertsImplementation);
    const maxLength = Math.min(request.maxLength, this.contextLength);
    return new DecoderDecoding(this.parts.decoder, prompts, maxLength, experts);
  }

  /** The rows of a decoding, without padding. */
  protected decodingPrompts(request: DecodingRequest): readonly Prompt[] {
    return this.prompts(request.inputIds, request.attentionMask);
  }

  protected async logits(
    prompts: readonly Prompt[],
    inputs: ForwardInputs,
    experts: () => string,
  ): Promise<CausalLMOutput> {
    const { main, ...rest } = await forwardPass(this.parts.decoder, prompts, inputs, 'logits', experts);
    return { logits: main, ...rest };
  }

  protected continue(options: GenerateOptions): Promise<GenerateOutput> {
    const defaults = parseGenerationConfig(this.parts.generationConfig, 'generation_config.json');
    return generate(this, defaults, options);
  }
}

/** A decoder of text. Counterpart of HF `Qwen3MoeForCausalLM`. */
export class CausalLM extends GenerativeModel {
  /**
   * Logits of a batch of prompts, in one pass.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async forward(inputs: ForwardInputs): Promise<CausalLMOutput> {
    const prompts = this.prompts(inputs.inputIds, inputs.attentionMask);
    return this.logits(prompts, inputs, this.backendReader(inputs.expertsImplementation));
  }

  /**
   * Continues a batch of prompts. Options not given come from generation_config.json, then from the library's defaults.
   * @throws InputError for ids, masks or options out of range; AbortError with what was generated so far
   */
  async generate(options: CausalLMGenerateOptions): Promise<GenerateOutput> {
    return this.continue(options);
  }
}

/** A decoder without a head. Counterpart of HF `Qwen3MoeModel`. */
export class BaseModel extends PreTrainedModel {
  /**
   * Hidden states of a batch of prompts, in one pass.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async forward(inputs: Omit<ForwardInputs, 'logitsToKeep'>): Promise<BaseModelOutput> {
    const prompts = this.prompts(inputs.inputIds, inputs.attentionMask);
    const experts = this.backendReader(inputs.expertsImplementation);
    const { main, ...rest } = await forwardPass(
      this.parts.decoder,
      prompts,
      inputs,
      'last_hidden_state',
      experts,
    );
    return { lastHiddenState: main, ...rest };
  }
}
