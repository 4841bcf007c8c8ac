import type { DType } from '../dtype.ts';
import type { ModelIdentity } from '../engine/cache-file.ts';
import type { Engine } from '../engine/engine.ts';
import type { SoundRuntime } from '../engine/sound-runner.ts';
import type { VisionRuntime } from '../engine/vision-runner.ts';
import type { ExpertsModel, ExpertsSetting } from '../experts/resolve.ts';
import type { StoredWeight } from '../graph/weight-source.ts';
import type { Model, TokenWork } from '../models/architecture.ts';
import type { PromptReader } from './prompt-options.ts';

/** The weights of a model as they are stored, and what each has to do with a token. */
export interface ModelWeights {
  readonly weights: readonly StoredWeight[];
  readonly work: TokenWork;
}

/** Experts that are kept where they are computed with, and what comes of it. */
export interface PinnedExpertsStats {
  /** In all layers together. */
  readonly experts: number;
  /** Bytes of them as stored. */
  readonly bytes: number;
  /** Of these, what stays whatever happens; the rest stays in memory as long as nothing else presses. */
  readonly lockedBytes: number;
  /**
   * Share of the reads of experts that go to them, by the file of records. A pass reads the weights of an expert once, however many of its
   * tokens go there.
   */
  readonly predictedHitRate: number;
  /** The same of all passes of this model; absent before the first. */
  readonly hitRate?: number;
}

/** What a loaded model is made of. */
export interface ModelParts {
  readonly idOrFolder: string;
  readonly model: Model;
  /** The config.json in force. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig: {
    /** In snake_case, as stored. */
    readonly json: Readonly<Record<string, unknown>>;
    /** Path of the file it comes from. */
    readonly file: string;
  };
  readonly dtype: DType;
  /** As they are multiplied: rounded ones in place of those that they were made of. */
  readonly weights: readonly StoredWeight[];
  readonly engine: Engine;
  /** The vision tower of an image-text model. */
  readonly vision?: VisionRuntime;
  /** The audio tower of one that hears. */
  readonly hearing?: SoundRuntime;
  readonly contextLength: number;
  /** What tells the model from others; computed once, when somebody asks. */
  readonly identity: () => Promise<ModelIdentity>;
  readonly expertsModel: ExpertsModel;
  readonly experts: ExpertsSetting;
  /** Whether `grouped_mm` may decode with `batched_mm` on a GPU. */
  readonly decodeWithBatchedMm: boolean;
  /** As asked for. */
  readonly threads: number | undefined;
  readonly maxMemory: number | undefined;
  /** Experts that are kept at hand, where that was asked for. */
  readonly pinned?: () => PinnedExpertsStats;
  /** Reads texts and conversations. */
  readonly prompts: PromptReader;
  readonly warn: (message: string) => void;
  /** Frees what the parts hold. */
  readonly release: () => Promise<void>;
}
