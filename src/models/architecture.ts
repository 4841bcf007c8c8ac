import type { Graph } from '../graph/graph.ts';
import type { DType } from '../graph/precision.ts';
import type { DecoderConfig, GraphOptions } from '../nn/types.ts';
import type { VisionConfig } from './qwen3_vl_moe/vision.ts';

/** The vision tower of an image-text architecture. */
export interface VisionPart<C> {
  config(config: C): VisionConfig;
  /** Ids of the placeholder tokens that picture and video features replace. */
  tokens(config: C): { readonly image: number; readonly video: number };
  /** Emits the tower. Inputs and outputs: see `models/qwen3_vl_vision.ts`. */
  buildGraph(graph: Graph, config: C, dtype: DType): void;
}

/** A model family: everything Switchyard knows about one HF `model_type`. */
export interface Architecture<C = unknown> {
  readonly modelType: string;
  /** Keys an `expertsImplementation` map may name besides "". */
  readonly subConfigs: readonly string[];
  /**
   * config.json → typed config.
   * @throws ConfigError naming file, field and value
   */
  parse(json: unknown, file: string): C;
  /** The text decoder's part of the config. */
  text(config: C): DecoderConfig;
  /** What a model that sees pictures has besides. */
  readonly vision?: VisionPart<C>;
  /** Emits the decoder. Inputs and outputs: see `layers/decoder.ts`. */
  buildGraph(graph: Graph, config: C, options: GraphOptions): void;
}
