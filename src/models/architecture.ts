import type { Graph } from '../graph/graph.ts';
import type { DecoderConfig, GraphOptions } from '../layers/types.ts';

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
  /** Emits the decoder. Inputs and outputs: see `layers/decoder.ts`. */
  buildGraph(graph: Graph, config: C, options: GraphOptions): void;
}
