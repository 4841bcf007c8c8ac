import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { WeightSource } from '../graph/weight-source.ts';
import type { Repo } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { openCheckpoint } from '../safetensors/checkpoint.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import { CheckpointWeights, type LoadReport } from '../weights/checkpoint-weights.ts';
import { loadConfig } from './load-config.ts';

/** How a checkpoint fits its architecture. */
export interface ModelReport extends LoadReport {
  readonly architecture: string;
  /** Number of tensors on disk. */
  readonly tensors: number;
}

/** Matches every tensor of a repo against what its architecture needs, without reading one. */
export async function checkModel(repo: Repo): Promise<ModelReport> {
  const { model } = await loadConfig(repo);
  const checkpoint = await openCheckpoint(repo);
  const { report } = matchWeights(model, checkpoint);
  return { architecture: model.modelType, tensors: checkpoint.tensors.size, ...report };
}

/** Builds a model's graphs over the checkpoint's headers alone: whatever they ask for must be there. */
export function matchWeights(
  model: Model,
  checkpoint: Checkpoint,
): { report: LoadReport; weights: CheckpointWeights } {
  const weights = new CheckpointWeights(checkpoint);
  buildAll(model, weights);
  return { report: weights.report((tensor) => model.work.use(tensor)), weights };
}

/** Builds what asks for every tensor of a model. */
export function buildAll(model: Model, weights: WeightSource): void {
  const target = { device: 'cpu', dtype: 'float32' } as const;
  const experts = ExpertsInterface.get('grouped_mm');
  model.build(new Graph(weights), {
    ...target,
    experts,
    head: 'logits',
    intermediates: false,
    visual: false,
  });
  model.media?.buildTower(new Graph(weights), target);
}
