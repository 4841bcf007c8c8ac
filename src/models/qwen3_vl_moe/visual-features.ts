import type { Value } from '../../graph/graph.ts';
import type { Scope } from '../../nn/scope.ts';
import * as io from '../io.ts';
import type { DecoderPass } from '../pass.ts';

/** Features of pictures on their way into the decoder (HF `Qwen3VLMoeTextModel._deepstack_process`). */
export class VisualFeatures {
  readonly #g: Scope;
  readonly #pass: DecoderPass;
  readonly #hidden: number;
  readonly #layers: number;
  /** int64 [visual, 1]: tokens that are placeholders. */
  readonly #rows: Value;

  /** @param layers behind how many of the first layers features are added */
  constructor(g: Scope, pass: DecoderPass, hidden: number, layers: number) {
    this.#g = g;
    this.#pass = pass;
    this.#hidden = hidden;
    this.#layers = layers;
    this.#rows = g.op('Unsqueeze', [pass.input(io.VISUAL_ROWS), g.graph.int64([-1])]);
  }

  /** Embeddings with features in place of the placeholders'. @param x fp32 [tokens, hidden] */
  embed(x: Value): Value {
    return this.#scatter(x, this.#pass.input(io.visualEmbeds(this.#hidden)), 'none');
  }

  /** The residual behind a layer, with the layer's features added. @param x fp32 [tokens, hidden] */
  deepstack(x: Value, layer: number): Value {
    if (layer >= this.#layers) return x;
    return this.#scatter(x, this.#pass.input(io.deepstack(layer, this.#hidden)), 'add');
  }

  #scatter(x: Value, updates: Value, reduction: 'none' | 'add'): Value {
    return this.#g.op('ScatterND', [x, this.#rows, updates], { reduction });
  }
}
