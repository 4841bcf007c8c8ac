/**
 * Inputs and outputs of the graphs that models build: names, element types and shapes. Models declare them, the engine feeds and
 * fetches them by the same names; nothing else spells them.
 */
import type { GraphType } from '../dtype.ts';
import type { Dimension } from '../graph/parts.ts';
import type { CacheSpec, KeysValuesSpec, RecurrentSpec } from '../nn/cache-spec.ts';

/** Most tokens of one pass over prompts: large enough for full GEMM speed, small enough to bound activations. */
export const CHUNK_TOKENS = 512;
/**
 * The same on a GPU, where no token's scores but the last's are asked for: each pass reads every expert again, and products reach their
 * speed with thousands of tokens.
 */
export const DEVICE_CHUNK_TOKENS = 4096;

/** One input or output of a graph. */
export interface Port {
  readonly name: string;
  readonly dtype: GraphType;
  readonly shape: readonly Dimension[];
}

/** A value for an input. */
export interface Feed {
  readonly dtype: 'float32' | 'int64';
  readonly data: Float32Array | BigInt64Array;
  readonly dims: readonly number[];
}

const port = (name: string, dtype: GraphType, shape: readonly Dimension[]): Port => ({
  name,
  dtype,
  shape,
});

/** Token ids of all rows of the pass, end to end. */
export const INPUT_IDS = port('input_ids', 'int64', ['tokens']);
/** Rotary positions on one axis or several. */
export const positionIds = (axes: number): Port => port(POSITION_IDS, 'int64', [axes, 'tokens']);
export const POSITION_IDS = 'position_ids';
/** The ids before each token of its sequence, the nearest first; -1 where there are none. */
export const precedingIds = (count: number): Port => port(PRECEDING_IDS, 'int64', [count, 'tokens']);
export const PRECEDING_IDS = 'preceding_ids';
/** Rotary positions of the first token of the block that a token lies in; see `Model.positionBlock`. */
export const blockPositions = (axes: number): Port => port(BLOCK_POSITIONS, 'int64', [axes, 'tokens']);
export const BLOCK_POSITIONS = 'block_positions';
/** First token of each row, then the number of tokens. */
export const ROW_STARTS = port('row_starts', 'int32', ['rows + 1']);
/** Positions of each row that the cache holds before the pass. */
export const PAST_LENGTHS = port('past_lengths', 'int32', ['rows']);
/** The cache blocks that each row's positions lie in, in their order; what is beyond them is ignored. */
const BLOCK_TABLES = port('block_tables', 'int32', ['rows', 'width']);
/** Where each row's recurrent states lie. A row without a past begins with zeros, whatever lies there. */
const STATE_SLOTS = port('state_slots', 'int32', ['rows']);
/** Tokens whose logits are wanted. */
export const LOGITS_ROWS = port('logits_rows', 'int64', ['wanted']);
/** How many of the highest logits to list. */
export const CANDIDATES = port('candidates', 'int32', []);
/** Which of the built-in experts backends runs: its place in `IMPLEMENTATIONS`. */
export const EXPERTS_IMPLEMENTATION = port('experts_implementation', 'int32', []);

/** Tokens that are placeholders, ascending. */
export const VISUAL_ROWS = port('visual_rows', 'int64', ['visual']);
/** What replaces the placeholders' embeddings. */
export const visualEmbeds = (hidden: number): Port => port('visual_embeds', 'float32', ['visual', hidden]);
/** What is added to the placeholders' hidden states behind a layer. */
export const deepstack = (layer: number, hidden: number): Port =>
  port(`deepstack.${layer}`, 'float32', ['visual', hidden]);

/** Of the inputs that say where rows have their caches, those that a model with such layers has. */
export function cacheInputs(caches: readonly CacheSpec[]): { blockTables?: Port; stateSlots?: Port } {
  const has = (kind: CacheSpec['kind']) => caches.some((spec) => spec.kind === kind);
  return {
    ...(has('keys_values') ? { blockTables: BLOCK_TABLES } : {}),
    ...(has('recurrent') ? { stateSlots: STATE_SLOTS } : {}),
  };
}

/** What a layer keeps, by one name in all of the engine: `N.key`, `N.value`, or `N.` and a recurrent state's own. */
export const stateName = (layer: number, state: string): string => `${layer}.${state}`;
export const pastName = (state: string): string => `past_key_values.${state}`;
export const presentName = (state: string): string => `present.${state}`;

/** A layer's cache as a pass finds it and as it leaves it: the same memory, in and out. */
export interface CachePorts {
  readonly past: Port;
  readonly present: Port;
}

export function keysValuesPorts(
  layer: number,
  { kvHeads, headDim }: KeysValuesSpec,
  dtype: GraphType,
): { readonly key: CachePorts; readonly value: CachePorts } {
  const shape = ['blocks', kvHeads, 'positions', headDim];
  return { key: cachePorts(layer, 'key', dtype, shape), value: cachePorts(layer, 'value', dtype, shape) };
}

export function indexPorts(layer: number, { indexDim = 0 }: KeysValuesSpec, dtype: GraphType): CachePorts {
  return cachePorts(layer, 'index', dtype, ['blocks', 1, 'positions', indexDim]);
}

/** By the states' names. */
export function statePorts(layer: number, { states }: RecurrentSpec): Readonly<Record<string, CachePorts>> {
  const ports = Object.entries(states).map(([state, shape]) => [
    state,
    cachePorts(layer, state, 'float32', ['slots', ...shape]),
  ]);
  return Object.fromEntries(ports);
}

function cachePorts(layer: number, state: string, dtype: GraphType, shape: readonly Dimension[]): CachePorts {
  const name = stateName(layer, state);
  return { past: port(pastName(name), dtype, shape), present: port(presentName(name), dtype, shape) };
}

/** Logits of the wanted tokens. */
export const logits = (vocab: number): Port => port(LOGITS, 'float32', ['wanted', vocab]);
export const LOGITS = 'logits';
/** The highest logits of each wanted token, best first, equal ones by ascending id. */
export const CANDIDATE_LOGITS = port('candidate_logits', 'float32', ['wanted', 'candidates']);
export const CANDIDATE_IDS = port('candidate_ids', 'int32', ['wanted', 'candidates']);
/** After the final norm. */
export const lastHiddenState = (hidden: number): Port =>
  port(LAST_HIDDEN_STATE, 'float32', ['tokens', hidden]);
export const LAST_HIDDEN_STATE = 'last_hidden_state';
/** Embeddings for 0, the output of layer N − 1 for N, after the final norm for the last. */
export const hiddenStates = (index: number, hidden: number): Port =>
  port(`hidden_states.${index}`, 'float32', ['tokens', hidden]);
export const routerLogits = (layer: number, experts: number): Port =>
  port(`router_logits.${layer}`, 'float32', ['tokens', experts]);
/** Chosen experts, best first; in the last layer only of the tokens that it computes. */
export const routerIndices = (layer: number, topK: number): Port =>
  port(`router_indices.${layer}`, 'int32', ['tokens', topK]);
export const routerWeights = (layer: number, topK: number): Port =>
  port(`router_weights.${layer}`, 'float32', ['tokens', topK]);

/** Patches of one picture or clip, frame by frame; the tower's other inputs are the model's own affair. */
export const pixelValues = (patchValues: number): Port =>
  port('pixel_values', 'float32', ['frames', 'patches', patchValues]);
/** Chunks of a sound's spectrogram that see each other. */
export const soundFeatures = (bands: number): Port =>
  port('input_features', 'float32', ['chunks', bands, 'frames']);
/** How many of the chunks' tokens are the sound's. */
export const SOUND_TOKENS = port('sound_tokens', 'int64', [1]);
/** Tokens of each chunk: fewer than usual where the sound is shorter than one. */
export const SOUND_CHUNK_TOKENS = port('sound_chunk_tokens', 'int64', [1]);
/** What a tower makes of a picture or a sound: embeddings of its placeholder tokens … */
export const towerEmbeds = (hidden: number): Port => port('embeds', 'float32', ['tokens', hidden]);
/** … and what is added to their hidden states behind a layer. */
export const towerDeepstack = (layer: number, hidden: number): Port =>
  port(`deepstack.${layer}`, 'float32', ['tokens', hidden]);
