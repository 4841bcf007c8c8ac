/** Which matrices of a checkpoint are rounded, and to what. Nothing is read. */
import type { WeightInfo } from '../graph/weight-source.ts';
import type { MatrixKind, Model } from '../models/architecture.ts';
import { matricesOf } from '../nn/stored-experts.ts';
import type { RoundRequest, RoundScheme } from '../runtime/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import type { QuantizationScheme } from './scheme.ts';

/** One matrix to round. */
export interface PlannedMatrix {
  /** The weight that it becomes. */
  readonly name: string;
  readonly kind: MatrixKind;
  /** Where it lies, all of its rows. */
  readonly source: RoundRequest;
}

export interface QuantizationPlan {
  readonly matrices: readonly PlannedMatrix[];
  /** Tensors and quantized weights that they replace. */
  readonly replaced: ReadonlySet<string>;
  /** Those of them that should have 4 bits, but whose columns no group divides: they get int8. */
  readonly widened: readonly string[];
}

/** @param scheme what each kind of matrix becomes */
export function planQuantization(
  model: Model,
  checkpoint: ModelCheckpoint,
  scheme: QuantizationScheme,
): QuantizationPlan {
  const weights = new CheckpointWeights(checkpoint);
  const matrices: PlannedMatrix[] = [];
  const replaced = new Set<string>();
  const widened: string[] = [];
  const add = (kind: MatrixKind, wanted: RoundScheme, place: Omit<RoundRequest, 'scheme'>, name: string) => {
    const fits = wanted.bits === 8 || place.columns % wanted.group === 0;
    if (!fits) widened.push(name);
    matrices.push({ name, kind, source: { ...place, scheme: fits ? wanted : { bits: 8 } } });
  };
  const [context] = model.expertsContexts(weights, { device: 'cpu', dtype: 'float32' });
  for (const name of [...checkpoint.tensors.keys(), ...(checkpoint.quantized?.keys() ?? [])]) {
    const { matrix: kind } = model.work.use(name);
    const wanted = kind && scheme[kind];
    if (!kind || !wanted) continue;
    const { shape, quantized } = weights.info(name) as WeightInfo;
    // Codes of few bits would only lose by being rounded again.
    if (quantized && quantized.type !== 'float8_e4m3') continue;
    const [rows = 0, columns = 0] = shape;
    replaced.add(name);
    if (shape.length === 2) add(kind, wanted, { name, firstRow: 0, firstColumn: 0, rows, columns }, name);
    else if (context)
      for (const { name: own, ...place } of matricesOf(name, context))
        add(kind, wanted, { name, ...place }, own);
  }
  const { head } = scheme;
  const tied = head && model.headWeight?.(weights);
  if (tied && tied.source !== tied.own) {
    // The embedding stays, as of it rows are read.
    const [rows = 0, columns = 0] = weights.info(tied.source)?.shape ?? [];
    add('head', head, { name: tied.source, firstRow: 0, firstColumn: 0, rows, columns }, tied.own);
  }
  return { matrices, replaced, widened };
}
