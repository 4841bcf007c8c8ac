import { ConfigError } from '../errors.ts';
import type { WeightInfo, WeightSource } from '../graph/weight-source.ts';
import type { Model } from '../models/architecture.ts';
import { MAX_TENSORS } from '../safetensors/limits.ts';
import { buildAll } from './check-model.ts';

/** A tensor that a model asks for. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * The tensors of a model as its config describes it, without any weights at hand: experts one by one, and a tied head
 * not stored.
 */
export function expectedWeights(model: Model): ExpectedTensor[] {
  const { routed, caches } = model;
  // What there is at the very least, so that numbers without measure end before anything is built by them.
  const least =
    caches.length * TENSORS_OF_LAYER + (routed ? routed.layers.length * routed.count * TENSORS_OF_EXPERT : 0);
  if (least > MAX_TENSORS) throw tooMany();
  const weights = new NotedWeights();
  buildAll(model, weights);
  return [...weights.shapes].map(([name, shape]) => ({ name, shape }));
}

/** Norms and projections of attention. */
const TENSORS_OF_LAYER = 6;
const TENSORS_OF_EXPERT = 3;

function tooMany(): ConfigError {
  return new ConfigError(
    `config.json asks for more than ${MAX_TENSORS} tensors; check its numbers of layers and experts`,
  );
}

/** Has every tensor that is asked for, and takes note of it. */
class NotedWeights implements WeightSource {
  readonly shapes = new Map<string, readonly number[]>();

  /** Models ask what is stored before they choose a layout. */
  info(): undefined {
    return undefined;
  }

  request(name: string, shape: readonly number[]): WeightInfo {
    this.shapes.set(name, shape);
    if (this.shapes.size > MAX_TENSORS) throw tooMany();
    return { dtype: 'F32', shape };
  }

  /** Of these a model has others by itself. */
  integers(): undefined {
    return undefined;
  }

  handle(): number {
    return 0;
  }

  /** Nothing runs what is built of it. */
  readFloat32(): Float32Array {
    return new Float32Array(0);
  }
}
