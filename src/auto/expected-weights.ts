import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { WeightInfo, WeightSource } from '../graph/weight-source.ts';
import type { Architecture } from '../models/architecture.ts';

/** A tensor that an architecture asks for. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * The tensors of a model as its config describes it, without any weights at hand: experts one by one, and a tied head
 * not stored.
 */
export function expectedWeights(architecture: Architecture, parsed: unknown): ExpectedTensor[] {
  const weights = new NotedWeights();
  architecture.buildGraph(new Graph(weights), parsed, {
    device: 'cpu',
    dtype: 'float32',
    experts: ExpertsInterface.get('grouped_mm'),
    head: 'logits',
    intermediates: false,
    visual: false,
  });
  architecture.vision?.buildGraph(new Graph(weights), parsed, 'float32');
  return [...weights.shapes].map(([name, shape]) => ({ name, shape }));
}

/** Has every tensor that is asked for, and takes note of it. */
class NotedWeights implements WeightSource {
  readonly shapes = new Map<string, readonly number[]>();

  /** Architectures ask what is stored before they choose a layout; only the embedding is certain to be. */
  info(name: string): WeightInfo | undefined {
    return name.endsWith('embed_tokens.weight') ? { dtype: 'F32', shape: [] } : undefined;
  }

  request(name: string, shape: readonly number[]): WeightInfo {
    this.shapes.set(name, shape);
    return { dtype: 'F32', shape };
  }

  handle(): number {
    return 0;
  }

  readFloat32(name: string): Float32Array {
    return new Float32Array(this.shapes.get(name)?.reduce((a, b) => a * b, 1) ?? 0);
  }
}
