import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { Repo } from '../hub/types.ts';
import { CheckpointWeights, type LoadReport } from '../models/checkpoint-weights.ts';
import { openCheckpoint } from '../safetensors/checkpoint.ts';
import { loadConfig } from './load-config.ts';

/** How a checkpoint fits its architecture. */
export interface ModelReport extends LoadReport {
  readonly architecture: string;
  /** Number of tensors on disk. */
  readonly tensors: number;
}

/** Matches every tensor of a repo against what its architecture needs, without reading one. */
export async function checkModel(repo: Repo): Promise<ModelReport> {
  const { architecture, parsed } = await loadConfig(repo);
  const checkpoint = await openCheckpoint(repo);
  const weights = new CheckpointWeights(checkpoint);
  architecture.buildGraph(new Graph(weights), parsed, {
    device: 'cpu',
    dtype: 'float32',
    experts: ExpertsInterface.get('grouped_mm'),
    head: 'logits',
    intermediates: false,
    visual: false,
  });
  return { architecture: architecture.modelType, tensors: checkpoint.tensors.size, ...weights.report() };
}
