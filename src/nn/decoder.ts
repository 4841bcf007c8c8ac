import { CALLS, IMPLEMENTATIONS, SELECTOR } from '../experts/moe-experts.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { PRECISION } from '../graph/precision.ts';
import { type AttentionInputs, attention, gatherRows } from './attention.ts';
import type { MoeResult } from './moe.ts';
import { addRmsNorm, rmsNorm } from './norm.ts';
import { type RotaryTables, rotaryTables } from './rope.ts';
import type { DecoderConfig, GraphOptions } from './types.ts';

/** What an architecture puts into the common decoder. */
export interface DecoderParts {
  /** Tensor prefix of the text model, such as `model`. */
  readonly prefix: string;
  /** The MoE block of a sparse layer; `prefix` is the layer's `mlp`. */
  sparseBlock(x: Value, prefix: string): MoeResult;
  /** cos and sin; default: from graph input `position_ids` [batch, sequence]. */
  rotary?(): RotaryTables;
  /** Replaces rows of the token embeddings, for inputs that are not tokens. */
  embed?(embeddings: Value): Value;
  /** Adds to the hidden state that leaves each of the first `layers` layers. */
  readonly afterLayer?: { readonly layers: number; apply(x: Value, layer: number): Value };
}

/**
 * A pre-norm decoder with a KV cache (HF `Qwen3MoeModel`).
 *
 * Inputs: `input_ids` int64 [batch, sequence], `position_ids` int64 [batch, sequence], `last_positions` int32 [batch] (index of
 * each row's newest cache position), `total_length` int32 [], `past_key_values.N.{key,value}` fp32 [batch, kv heads, capacity,
 * head], `logits_rows` int64 [rows] (flattened positions wanted), `candidates` int32 [] (how many of the highest logits to
 * list), `experts_implementation` int32 [].
 * Outputs: `logits` fp32 [rows, vocab] with `candidate_logits` fp32 and `candidate_ids` int32 [rows, candidates], or
 * `last_hidden_state` fp32 [batch, sequence, hidden]; `present.N.{key,value}`, `experts_calls` int64 [3], and the intermediates
 * that `options` asks for.
 */
export function buildDecoder(
  graph: Graph,
  config: DecoderConfig,
  options: GraphOptions,
  parts: DecoderParts,
): void {
  const { hidden_size: hidden, rms_norm_eps: epsilon } = config;
  const { prefix } = parts;
  const ids = graph.input('input_ids', 'int64', ['batch', 'sequence']);
  graph.shared.set(SELECTOR, graph.input(SELECTOR, 'int32', []));
  graph.shared.set(CALLS, graph.int64(IMPLEMENTATIONS.map(() => 0)));
  const shared: AttentionInputs = {
    rotary: parts.rotary?.() ?? graph.scope('rotary', () => textRotary(graph, config)),
    lastPositions: graph.input('last_positions', 'int32', ['batch']),
    totalLength: graph.input('total_length', 'int32', []),
  };

  // Only the wanted rows go through the last layer's feed-forward and the head; the cache still gets every position.
  const rows = options.head === 'logits' ? graph.input('logits_rows', 'int64', ['rows']) : undefined;
  const extended = parts.afterLayer?.layers ?? 0;
  const earlyRows = options.intermediates || extended >= config.num_hidden_layers ? undefined : rows;

  const { embedding, head } = embeddingNames(graph, config, prefix);
  const table = graph.table(embedding, [config.vocab_size, hidden]);
  const [embeddings] = graph.ownOps('Embedding', [ids], { weight: table }) as [Value];
  let residual = parts.embed?.(embeddings) ?? embeddings;
  emitHidden(graph, options, residual, 0, hidden);

  const norm = (layer: number, name: string) => `${prefix}.layers.${layer}.${name}.weight`;
  let normed = rmsNorm(graph, residual, norm(0, 'input_layernorm'), hidden, epsilon);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const last = layer + 1 === config.num_hidden_layers;
    graph.scope(`layers.${layer}`, () => {
      const layerPrefix = `${prefix}.layers.${layer}`;
      const kept = last ? earlyRows : undefined;
      const attended = attention(
        graph,
        normed,
        `${layerPrefix}.self_attn`,
        layer,
        config,
        shared,
        options,
        kept,
      );
      if (kept) residual = gatherRows(graph, residual, kept, hidden);
      const middle = addRmsNorm(
        graph,
        attended,
        residual,
        norm(layer, 'post_attention_layernorm'),
        hidden,
        epsilon,
      );
      const block = feedForward(graph, middle.normed, `${layerPrefix}.mlp`, layer, config, options, parts);
      const nextNorm = last ? `${prefix}.norm.weight` : norm(layer + 1, 'input_layernorm');
      if (parts.afterLayer && layer < extended) {
        residual = parts.afterLayer.apply(graph.op('Add', [middle.sum, block]), layer);
        normed = rmsNorm(graph, residual, nextNorm, hidden, epsilon);
      } else {
        ({ normed, sum: residual } = addRmsNorm(graph, block, middle.sum, nextNorm, hidden, epsilon));
      }
    });
    emitHidden(graph, options, last ? normed : residual, layer + 1, hidden);
  }

  graph.output(graph.shared.get(CALLS) as Value, CALLS, 'int64', [IMPLEMENTATIONS.length]);
  if (options.head === 'last_hidden_state') {
    graph.output(normed, 'last_hidden_state', 'float32', ['batch', 'sequence', hidden]);
  }
  if (rows) {
    const wanted = earlyRows ? normed : gatherRows(graph, normed, rows, hidden);
    languageHead(graph, wanted, head, config, options);
  }
}

/**
 * Names of the token embedding and of the output head. Tied ones share whichever is stored; a checkpoint that holds both is
 * taken at its word.
 */
function embeddingNames(
  graph: Graph,
  config: DecoderConfig,
  prefix: string,
): { embedding: string; head: string } {
  const embedding = `${prefix}.embed_tokens.weight`;
  const head = 'lm_head.weight';
  if (!config.tie_word_embeddings) return { embedding, head };
  const stored = (name: string, other: string) => (graph.weights.info(name) ? name : other);
  return { embedding: stored(embedding, head), head: stored(head, embedding) };
}

function textRotary(graph: Graph, config: DecoderConfig): RotaryTables {
  return rotaryTables(graph, config.rope, graph.input('position_ids', 'int64', ['batch', 'sequence']));
}

function feedForward(
  graph: Graph,
  x: Value,
  prefix: string,
  layer: number,
  config: DecoderConfig,
  options: GraphOptions,
  parts: DecoderParts,
): Value {
  if (!config.moe_layers[layer]) return denseMlp(graph, x, prefix, config, options);
  const { output, routerLogits, routerIndices, routerWeights } = parts.sparseBlock(x, prefix);
  if (options.intermediates) {
    const { num_experts: experts, num_experts_per_tok: topK } = config;
    graph.output(routerLogits, `router_logits.${layer}`, 'float32', ['batch', 'sequence', experts]);
    graph.output(routerIndices, `router_indices.${layer}`, 'int32', ['batch', 'sequence', topK]);
    graph.output(routerWeights, `router_weights.${layer}`, 'float32', ['batch', 'sequence', topK]);
  }
  return output;
}

/** down(silu(gate x) · up x): HF `Qwen2MoeMLP`. */
function denseMlp(
  graph: Graph,
  x: Value,
  prefix: string,
  config: DecoderConfig,
  options: GraphOptions,
): Value {
  const { hidden_size: hidden, intermediate_size: intermediate } = config;
  const [output] = graph.ownOps('GatedMlp', [x], {
    gate: graph.weight(`${prefix}.gate_proj.weight`, [intermediate, hidden]),
    up: graph.weight(`${prefix}.up_proj.weight`, [intermediate, hidden]),
    down: graph.weight(`${prefix}.down_proj.weight`, [hidden, intermediate]),
    output_gate: -1,
    precision: PRECISION[options.dtype],
  });
  return output as Value;
}

/**
 * Logits, and the highest of each row: generation fetches only these few, where they settle the next token.
 * @param x fp32 [rows, hidden]
 */
function languageHead(
  graph: Graph,
  x: Value,
  weight: string,
  config: DecoderConfig,
  options: GraphOptions,
): void {
  const { hidden_size: hidden, vocab_size: vocab } = config;
  const weights = [graph.weight(weight, [vocab, hidden])];
  const [logits] = graph.ownOps('Linear', [x], {
    weights,
    biases: [-1],
    precision: PRECISION[options.dtype],
  });
  graph.output(logits as Value, 'logits', 'float32', ['rows', vocab]);
  const count = graph.input('candidates', 'int32', []);
  const [values, ids] = graph.ownOps('TopCandidates', [logits, count], {}, 2) as [Value, Value];
  graph.output(values, 'candidate_logits', 'float32', ['rows', 'candidates']);
  graph.output(ids, 'candidate_ids', 'int32', ['rows', 'candidates']);
}

function emitHidden(graph: Graph, options: GraphOptions, x: Value, index: number, hidden: number): void {
  if (options.intermediates)
    graph.output(x, `hidden_states.${index}`, 'float32', ['batch', 'sequence', hidden]);
}
