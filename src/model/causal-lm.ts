import { abortable } from '../errors.ts';
import type { Prompts } from '../generation/prompt.ts';
import type { Tensor } from '../runtime/ort.ts';
import {
  checkForward,
  FORWARD_OPTIONS,
  type ForwardInputs,
  forwardPass,
  type Intermediates,
  LOGITS_OPTIONS,
} from './forward.ts';
import type { CausalLMGenerateOptions } from './generate-options.ts';
import { type CausalLMOutput, GenerativeModel } from './generative-model.ts';
import { PreTrainedModel } from './pretrained-model.ts';

/** Result of `BaseModel.forward`. */
export interface BaseModelOutput extends Intermediates {
  /** After the final norm, fp32 [batch, positions, hidden]. */
  lastHiddenState: Tensor<'float32'>;
}

/** A decoder of text. Counterpart of HF `Qwen3MoeForCausalLM`. */
export class CausalLM extends GenerativeModel {
  /**
   * Logits of a batch of prompts, in one pass.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async forward(inputs: ForwardInputs, ...more: never[]): Promise<CausalLMOutput> {
    checkForward(inputs, more, [...LOGITS_OPTIONS, 'cache']);
    return abortable(inputs.signal, 'forward', async () => {
      const { rows } = this.prompts(inputs.inputIds, inputs.attentionMask);
      const experts = await this.backendReader(inputs.expertsImplementation, inputs.signal);
      return this.afterCache(rows, inputs.cache, 'forward', (prompts, keeper) =>
        this.logits(prompts, inputs, experts, keeper),
      );
    });
  }

  protected override async prepare({ inputIds, attentionMask }: CausalLMGenerateOptions): Promise<Prompts> {
    return this.prompts(inputIds, attentionMask);
  }
}

/** A decoder without a head. Counterpart of HF `Qwen3MoeModel`. */
export class BaseModel extends PreTrainedModel {
  /**
   * Hidden states of a batch of prompts, in one pass.
   * @throws InputError for ids, masks or options out of range; AbortError
   */
  async forward(inputs: Omit<ForwardInputs, 'logitsToKeep'>, ...more: never[]): Promise<BaseModelOutput> {
    checkForward(inputs, more, [...FORWARD_OPTIONS, 'cache']);
    return abortable(inputs.signal, 'forward', () => this.#forward(inputs));
  }

  async #forward(inputs: ForwardInputs): Promise<BaseModelOutput> {
    const { rows } = this.prompts(inputs.inputIds, inputs.attentionMask);
    const experts = await this.backendReader(inputs.expertsImplementation, inputs.signal);
    const { engine } = this.parts;
    const { main, ...rest } = await this.afterCache(rows, inputs.cache, 'forward', (prompts, keeper) =>
      forwardPass(engine, prompts, inputs, 'last_hidden_state', experts, keeper),
    );
    return { lastHiddenState: main, ...rest };
  }
}
