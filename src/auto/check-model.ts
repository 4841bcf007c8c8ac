import type { Head } from '../engine/sessions.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { WeightSource } from '../graph/weight-source.ts';
import type { Repo } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { CheckpointWeights, type LoadReport } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { damagedValues } from './damaged-values.ts';
import { loadConfig } from './load-config.ts';
import { openModelCheckpoint } from './model-checkpoint.ts';
import { openQuantization } from './quantization.ts';

/** How a checkpoint fits its architecture. */
export interface ModelReport extends LoadReport {
  readonly architecture: string;
  /** Number of tensors on disk. */
  readonly tensors: number;
  /** Number of weights that are stored as codes. */
  readonly quantized: number;
  /** Values for which a load refuses it: one sentence each. */
  readonly damaged: readonly string[];
}

/** Matches every tensor of a repo against what its architecture needs, and reads of quantized ones what a load looks at. */
export async function checkModel(repo: Repo, signal?: AbortSignal): Promise<ModelReport> {
  const { model, json } = await loadConfig(repo);
  const checkpoint = await openModelCheckpoint(repo, model, await openQuantization(repo, json));
  const { report } = matchWeights(model, checkpoint, isBare(json) ? 'last_hidden_state' : 'logits');
  return {
    architecture: model.modelType,
    tensors: checkpoint.tensors.size,
    quantized: checkpoint.quantized?.size ?? 0,
    ...report,
    damaged: await damagedValues(checkpoint, report.surplusBiases, signal),
  };
}

/** Whether config.json is of a model saved without output head, such as HF `Qwen3MoeModel`. */
function isBare({ architectures }: Readonly<Record<string, unknown>>): boolean {
  const [name] = Array.isArray(architectures) ? architectures : [];
  return typeof name === 'string' && name.endsWith('Model');
}

/** A checkpoint as a model's graphs ask for it. */
export interface MatchedWeights {
  readonly report: LoadReport;
  readonly weights: CheckpointWeights;
  /** Names of what a device keeps of them, with the built-in backends. */
  readonly resident: readonly string[];
}

/**
 * Builds a model's graphs over the checkpoint's headers alone: whatever they ask for must be there.
 * @param head without logits, the output head may be missing
 */
export function matchWeights(model: Model, checkpoint: ModelCheckpoint, head: Head): MatchedWeights {
  const weights = new CheckpointWeights(checkpoint);
  const resident = buildAll(model, weights);
  const report = weights.report((tensor) => model.work.use(tensor));
  if (head === 'logits') return { report, weights, resident };
  const isWanted = (name: string) => model.work.use(name).part !== 'head';
  return {
    report: { ...report, missing: report.missing.filter(isWanted) },
    weights,
    resident: resident.filter(isWanted),
  };
}

/**
 * Builds what asks for every tensor of a model.
 * @returns names of what a device keeps of them
 */
export function buildAll(model: Model, weights: WeightSource): string[] {
  const target = { device: 'cpu', dtype: 'float32' } as const;
  const experts = ExpertsInterface.get('grouped_mm');
  const [decoder, vision, sound] = [new Graph(weights), new Graph(weights), new Graph(weights)];
  model.build(decoder, {
    ...target,
    cacheDtype: 'float32',
    experts,
    head: 'logits',
    intermediates: false,
    visual: false,
  });
  model.media?.buildTower(vision, target);
  model.media?.sound?.buildTower(sound, target);
  return [decoder, vision, sound].flatMap((graph) => [...graph.resident]);
}
