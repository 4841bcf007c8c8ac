/**
 * Inputs and outputs of the graphs that models build: names, element types and shapes. Models declare them, the engine feeds and
 * fetches them by the same names; nothing else spells them.
 */
import type { ElementType } from '../dtype.ts';
import type { Dimension } from '../graph/parts.ts';
import type { CacheSpec } from '../nn/cache-spec.ts';

/** One input or output of a graph. */
export interface Port {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly Dimension[];
}

/** A value for an input. */
export interface Feed {
  readonly dtype: 'float32' | 'int64';
  readonly data: Float32Array | BigInt64Array;
  readonly dims: readonly number[];
}

const port = (name: string, dtype: ElementType, shape: readonly Dimension[]): Port => ({
  name,
  dtype,
  shape,
});

const BATCH = ['batch', 'sequence'] as const;

/** Token ids. */
export const INPUT_IDS = port('input_ids', 'int64', BATCH);
/** Rotary positions on one axis or several. */
export const positionIds = (axes: number): Port =>
  port('position_ids', 'int64', axes === 1 ? BATCH : [axes, ...BATCH]);
/** Index of each row's newest cache position. */
export const LAST_POSITIONS = port('last_positions', 'int32', ['batch']);
/** Largest number of positions in use, newest included. */
export const TOTAL_LENGTH = port('total_length', 'int32', []);
/** Flattened positions whose logits are wanted. */
export const LOGITS_ROWS = port('logits_rows', 'int64', ['rows']);
/** How many of the highest logits to list. */
export const CANDIDATES = port('candidates', 'int32', []);
/** Which of the built-in experts backends runs: its place in `IMPLEMENTATIONS`. */
export const EXPERTS_IMPLEMENTATION = port('experts_implementation', 'int32', []);

/** Flattened positions of placeholders, ascending. */
export const VISUAL_ROWS = port('visual_rows', 'int64', ['visual']);
/** What replaces the placeholders' embeddings. */
export const visualEmbeds = (hidden: number): Port => port('visual_embeds', 'float32', ['visual', hidden]);
/** What is added to the placeholders' hidden states behind a layer. */
export const deepstack = (layer: number, hidden: number): Port =>
  port(`deepstack.${layer}`, 'float32', ['visual', hidden]);

/** What a layer keeps, by one name in all of the engine: `N.key`, `N.value`, or `N.` and a recurrent state's own. */
export const stateName = (layer: number, state: string): string => `${layer}.${state}`;
export const pastName = (state: string): string => `past_key_values.${state}`;
export const presentName = (state: string): string => `present.${state}`;

/** A layer's cache as a pass finds it and as it leaves it: the same memory, in and out. */
export interface CachePorts {
  readonly past: Port;
  readonly present: Port;
}

/** @param dtype of caches: see `cacheDtype` */
export function cachePorts(layer: number, spec: CacheSpec, dtype: ElementType): CachePorts[] {
  const shapes: Readonly<Record<string, readonly Dimension[]>> =
    spec.kind === 'keys_values'
      ? Object.fromEntries(
          ['key', 'value'].map((part) => [part, ['batch', spec.kvHeads, 'capacity', spec.headDim]]),
        )
      : Object.fromEntries(Object.entries(spec.states).map(([name, shape]) => [name, ['batch', ...shape]]));
  return Object.entries(shapes).map(([state, shape]) => ({
    past: port(pastName(stateName(layer, state)), dtype, shape),
    present: port(presentName(stateName(layer, state)), dtype, shape),
  }));
}

/** Element type of caches: a device keeps them as it computes. */
export function cacheDtype({ device, dtype }: { device: 'cpu' | 'cuda'; dtype: ElementType }): ElementType {
  return device === 'cpu' ? 'float32' : dtype;
}

/** Logits of the wanted positions. */
export const logits = (vocab: number): Port => port(LOGITS, 'float32', ['rows', vocab]);
export const LOGITS = 'logits';
/** The highest logits of each wanted position, best first, equal ones by ascending id. */
export const CANDIDATE_LOGITS = port('candidate_logits', 'float32', ['rows', 'candidates']);
export const CANDIDATE_IDS = port('candidate_ids', 'int32', ['rows', 'candidates']);
/** After the final norm. */
export const lastHiddenState = (hidden: number): Port =>
  port(LAST_HIDDEN_STATE, 'float32', [...BATCH, hidden]);
export const LAST_HIDDEN_STATE = 'last_hidden_state';
/** Embeddings for 0, the output of layer N − 1 for N, after the final norm for the last. */
export const hiddenStates = (index: number, hidden: number): Port =>
  port(`hidden_states.${index}`, 'float32', [...BATCH, hidden]);
export const routerLogits = (layer: number, experts: number): Port =>
  port(`router_logits.${layer}`, 'float32', [...BATCH, experts]);
/** Chosen experts, best first. */
export const routerIndices = (layer: number, topK: number): Port =>
  port(`router_indices.${layer}`, 'int32', [...BATCH, topK]);
export const routerWeights = (layer: number, topK: number): Port =>
  port(`router_weights.${layer}`, 'float32', [...BATCH, topK]);

/** Patches of one picture or clip, frame by frame; the tower's other inputs are the model's own affair. */
export const pixelValues = (patchValues: number): Port =>
  port('pixel_values', 'float32', ['frames', 'patches', patchValues]);
/** What the tower makes of a picture: embeddings of its placeholder tokens … */
export const towerEmbeds = (hidden: number): Port => port('embeds', 'float32', ['tokens', hidden]);
/** … and what is added to their hidden states behind a layer. */
export const towerDeepstack = (layer: number, hidden: number): Port =>
  port(`deepstack.${layer}`, 'float32', ['tokens', hidden]);
