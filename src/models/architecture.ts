import type { DeclaredDtype } from '../dtype.ts';
import type { ExpertsContext, ExpertsWeights } from '../experts/interface.ts';
import type { Graph } from '../graph/graph.ts';
import type { WeightSource } from '../graph/weight-source.ts';
import type { Grid, SoundFeatures } from '../media/types.ts';
import type { CacheSpec } from '../nn/cache-spec.ts';
import type { Target, Variant } from '../nn/scope.ts';
import type { Feed } from './io.ts';

/** A model family: everything Switchyard knows about one HF `model_type`. */
export interface Architecture {
  readonly modelType: string;
  /**
   * A model by its config.json.
   * @param file what to call the source in messages
   * @throws ConfigError naming file, field and value
   */
  parse(json: unknown, file: string): Model;
}

/** What a model is to the rest. Its config stays inside, and so do the names of its tensors. */
export interface Model {
  readonly modelType: string;
  /** Keys an `expertsImplementation` map may name besides "". */
  readonly subConfigs: readonly string[];
  /** Precision the config declares. */
  readonly declared: DeclaredDtype;
  readonly vocabSize: number;
  /** Most positions a sequence may have. */
  readonly contextLength: number;
  /** Width of the hidden states. */
  readonly hiddenSize: number;
  /** Axes of a token's rotary position: one; two where frequencies depend on the length; three for time, height and width. */
  readonly positionAxes: number;
  /** Rotary positions of a prompt of this many tokens, [axes][tokens]; without it they are the tokens' places. */
  promptPositions?(tokens: number): readonly ArrayLike<number>[];
  /** How many of the ids before a token a pass is told with it. Default 0. */
  readonly precedingIds?: number;
  /**
   * Of models with a sparse index over blocks of so many places: with each token a pass is told the rotary position of the first token of
   * its block.
   */
  readonly positionBlock?: number;
  /** Width of what goes from layer to layer, where it is not that of the hidden states. */
  readonly residualSize?: number;
  /** What each layer keeps of a sequence between passes, in order. */
  readonly caches: readonly CacheSpec[];
  /** The routed experts; undefined for a model without. */
  readonly routed: RoutedExperts | undefined;
  /** Sizes that decide how long a pass takes, for keys of measurements. */
  readonly geometry: Readonly<Record<string, string | number>>;
  readonly work: TokenWork;
  /** What a model that sees has besides; absent for text models. */
  readonly media?: MediaPart;
  /** The decoder as a text model, for a model that sees and whose family has such a class. */
  readonly languageModel?: Model;
  /** The name by which the model asks for a tensor that may be stored under another, as by the bare model or by earlier versions. */
  canonicalName(stored: string): string;
  /**
   * For a stored tensor in which the matrices of all experts of a layer lie one after another, apart for gate, up and down (MLX): the name
   * that the model has for the one of an expert. Undefined for any other.
   */
  stackedExperts?(name: string): ((expert: number) => string) | undefined;
  /** For a stored scale that several quantized weights share, which these are, by their names; undefined for any other tensor. */
  sharedScale?(name: string): RegExp | undefined;
  /** Names of the tensor that serves as output head, and of a head that would be stored by itself: they differ where it is tied. */
  headWeight?(stored: WeightSource): { readonly source: string; readonly own: string };
  /** Where the routed experts run and how a checkpoint stores them, by MoE layer. Asks for no tensor. */
  expertsContexts(stored: WeightSource, target: Target): ExpertsContext[];
  /** The tensors of the routed experts as a checkpoint has them, by MoE layer. Asks for none. */
  expertsWeights(stored: WeightSource): ExpertsWeights[];
  /** Emits the decoder of a variant. Inputs and outputs: see `io.ts`. Every weight is asked for, so that building is the load check. */
  build(graph: Graph, variant: Variant): void;
}

export interface RoutedExperts {
  /** Indices of the layers that route, ascending. */
  readonly layers: readonly number[];
  /** Experts in each. */
  readonly count: number;
  /** Experts a token is routed to. */
  readonly perToken: number;
}

/** How much work a token is. */
export interface TokenWork {
  /** By layer: multiply-adds for a position and one that it looks back on. */
  readonly attention: readonly number[];
  /** What a stored tensor has to do with it. */
  use(tensor: string): TensorUse;
}

/** Matrices that make up nearly all of a model and may be rounded: experts include the shared one and dense MLPs. */
export type MatrixKind = 'experts' | 'attention' | 'head';

/** Where a stored tensor is used. */
export interface TensorUse {
  /**
   * `embedding`: a table of which a token reads a row or a few; with a layer, one that is not the tokens'. `projections`: up to a layer's queries, keys and values, which every position
   * goes through. `rest`: a layer behind that. `norm`: the final norm, and what makes its input. `head`: the output head. `tower`: what sees or hears. `unread`: a
   * buffer that old checkpoints carry and every implementation computes itself, or of a part that never runs, such as layers that
   * draft several tokens. `unknown`: none of these.
   */
  readonly part: 'embedding' | 'projections' | 'rest' | 'norm' | 'head' | 'tower' | 'unread' | 'unknown';
  readonly layer?: number;
  /** What kind of matrix it is, or it holds; absent for norms, routers, tables and whatever else stays as it is. */
  readonly matrix?: MatrixKind;
  /** Part of it that a token reads: k of E for routed experts, else all. */
  readonly share: number;
  /** Whether it belongs to a routed expert that the config does not count: config and weights are then of different models. */
  readonly isSurplusExpert: boolean;
}

/** Whether a tensor holds matrices of routed experts, all of one or of all. */
export function isRoutedExpert({ share }: TensorUse): boolean {
  return share > 0 && share < 1;
}

/** What pictures and videos of a prompt become, in the order of their placeholders. */
export interface MediaGrids {
  readonly images: readonly Grid[];
  readonly videos: readonly Grid[];
  /** Seconds from one pair of frames to the next, of each video; of a model whose positions say when frames were taken. */
  readonly secondsPerGrid?: readonly number[];
}

/** Kinds of tokens, as in `mm_token_type_ids`. */
export const TOKEN_TYPES = { text: 0, image: 1, video: 2, audio: 3 } as const;

/** Ids of the tokens that stand for pictures, videos and, of a model that hears, sounds. */
export interface PlaceholderIds {
  readonly image: number;
  readonly video: number;
  readonly audio?: number;
}

/** The kind of each token of a row: 1 at image tokens, 2 at video tokens, 3 at those of sounds, 0 elsewhere. */
export function tokenTypes(row: readonly number[], ids: PlaceholderIds): number[] {
  return row.map((id) => {
    if (id === ids.image) return TOKEN_TYPES.image;
    if (id === ids.video) return TOKEN_TYPES.video;
    return id === ids.audio ? TOKEN_TYPES.audio : TOKEN_TYPES.text;
  });
}

/** What a model that sees has besides its decoder. */
export interface MediaPart {
  readonly placeholders: PlaceholderIds;
  /** Sets of features besides the embeddings; the n-th is added to the hidden states behind layer n. */
  readonly deepstackLayers: number;
  /** Values of one patch, fp32, as the processor lays them. */
  readonly patchValues: number;
  /** Pixels a side of a patch, and the frames that it spans. */
  readonly patchSize: number;
  readonly temporalPatchSize: number;
  /** Patches a side of the block that makes one token. */
  readonly mergeSize: number;
  /** Placeholder tokens that a picture or clip of this grid stands for. */
  tokensOf(grid: Grid): number;
  /** The kind of each token by the placeholders' ids: see `TOKEN_TYPES`. */
  tokenTypes(ids: readonly number[]): number[];
  /**
   * Rotary positions of a prompt, [axes][tokens], and position minus place for the tokens after it.
   * @param types the kind of each token
   * @throws InputError where types and grids do not fit together
   */
  positions(
    types: readonly number[],
    grids: MediaGrids,
  ): { readonly positions: readonly Int32Array[]; readonly delta: number };
  /** Whether positions say when frames of videos were taken. */
  readonly timedVideos?: boolean;
  /** Emits the vision tower for one picture or clip. Outputs: see `io.ts`. */
  buildTower(graph: Graph, target: Target): void;
  /** What the tower is fed for a picture, by input name. @param pixels fp32 [patches of the grid, patchValues] */
  towerFeeds(pixels: Float32Array, grid: Grid): Readonly<Record<string, Feed>>;
  /** What a model that hears has besides. */
  readonly sound?: SoundPart;
}

/** What a model that hears has besides its decoder. */
export interface SoundPart {
  /** Bands of a spectrogram. */
  readonly bands: number;
  /** Placeholder tokens that a sound of so many frames stands for. */
  tokensOf(frames: number): number;
  /** Emits the audio tower for one window of a sound. Outputs: see `io.ts`. */
  buildTower(graph: Graph, target: Target): void;
  /**
   * What the tower is fed for a sound, by input name: window after window, which do not see each other.
   * @param frames of the features, without what fills them up
   */
  towerFeeds(features: SoundFeatures, frames: number): Iterable<Readonly<Record<string, Feed>>>;
}
