import type { ExpertsBackend, ExpertsContext } from '../experts/interface.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { Repo } from '../hub/types.ts';
import type { Architecture } from '../models/architecture.ts';
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
  const { architecture, parsed } = await loadConfig(repo);
  const checkpoint = await openCheckpoint(repo);
  const { report } = matchWeights(architecture, parsed, checkpoint);
  return { architecture: architecture.modelType, tensors: checkpoint.tensors.size, ...report };
}

/**
 * Builds an architecture's graphs over the checkpoint's headers alone: whatever they ask for must be there. Also tells in
 * which contexts the model's experts will run.
 */
export function matchWeights(
  architecture: Architecture,
  config: unknown,
  checkpoint: Checkpoint,
): { report: LoadReport; contexts: ExpertsContext[]; weights: CheckpointWeights } {
  const weights = new CheckpointWeights(checkpoint);
  const contexts: ExpertsContext[] = [];
  const backend = ExpertsInterface.get('grouped_mm');
  const experts: ExpertsBackend = {
    supports: (context) => {
      contexts.push(context);
      return true;
    },
    emit: (graph, inputs) => backend.emit(graph, inputs),
  };
  const common = { device: 'cpu', dtype: 'float32', experts, intermediates: false, visual: false } as const;
  architecture.buildGraph(new Graph(weights), config, { ...common, head: 'logits' });
  architecture.vision?.buildGraph(new Graph(weights), config, 'float32');
  return { report: weights.report(), contexts, weights };
}
