/** How a checkpoint stores the routed experts of a layer. */
import { dtypeOf, ELEMENT_TYPES } from '../dtype.ts';
import type { ExpertsContext, ExpertsWeights } from '../experts/interface.ts';
import type { WeightSource } from '../graph/weight-source.ts';
import type { Target } from './scope.ts';

export interface ExpertsSizes {
  readonly hidden_size: number;
  readonly moe_intermediate_size: number;
  readonly num_experts: number;
  readonly num_experts_per_tok: number;
}

/** Where a layer's experts run, and in which of the three layouts a checkpoint has them. @param prefix of the experts' tensors */
export function expertsContext(
  stored: WeightSource,
  prefix: string,
  config: ExpertsSizes,
  { device, dtype, int8Activations }: Target,
): ExpertsContext {
  const sizes = {
    numExperts: config.num_experts,
    topK: config.num_experts_per_tok,
    hiddenSize: config.hidden_size,
    intermediateSize: config.moe_intermediate_size,
  };
  const layout = storedLayout(stored, prefix, sizes);
  const [first] = expertsWeights(prefix, { ...sizes, layout }).gate;
  const found = stored.info(first as string);
  return {
    device,
    dtype,
    ...sizes,
    layout,
    weightDtype: ELEMENT_TYPES[dtypeOf(found?.dtype ?? '') ?? 'float32'].safetensors,
    ...(found?.quantized && { quantized: found.quantized }),
    ...(int8Activations && { int8Activations }),
  };
}

type Sizes = Pick<ExpertsContext, 'numExperts' | 'hiddenSize' | 'intermediateSize'>;

function storedLayout(stored: WeightSource, prefix: string, sizes: Sizes): ExpertsContext['layout'] {
  const fused = expertsWeights(prefix, { ...sizes, layout: 'fused' });
  const [gateUp, down] = [...fused.gate, ...fused.down].map((name) => stored.info(name));
  if (!gateUp && !down) return 'separate';
  const [wide, narrow] = tensorShapes(fused, { ...sizes, layout: 'fused_transposed' }).map(
    ([, shape]) => shape,
  );
  // Both tensors decide together: with hidden = 2 · intermediate gate_up is square and says nothing by itself.
  const isTransposed = sameShape(gateUp?.shape, wide) && sameShape(down?.shape, narrow);
  return isTransposed ? 'fused_transposed' : 'fused';
}

/** Names of the tensors of a layer's experts as a checkpoint has them. @param prefix of these names */
export function storedExperts(stored: WeightSource, prefix: string, config: ExpertsSizes): ExpertsWeights {
  return expertsWeights(prefix, expertsContext(stored, prefix, config, { device: 'cpu', dtype: 'float32' }));
}

/** Names of a layer's tensors in a layout. */
export function expertsWeights(
  prefix: string,
  { layout, numExperts }: Pick<ExpertsContext, 'layout' | 'numExperts'>,
): ExpertsWeights {
  if (layout !== 'separate')
    return { gate: [`${prefix}.gate_up_proj`], up: [], down: [`${prefix}.down_proj`] };
  const each = (part: string) =>
    Array.from({ length: numExperts }, (_, expert) => `${prefix}.${expert}.${part}.weight`);
  return { gate: each('gate_proj'), up: each('up_proj'), down: each('down_proj') };
}

/** Each tensor with the shape it must have. */
export function tensorShapes(
  { gate, up, down }: ExpertsWeights,
  context: Sizes & Pick<ExpertsContext, 'layout'>,
): (readonly [name: string, shape: readonly number[]])[] {
  const { numExperts: count, hiddenSize: hidden, intermediateSize: intermediate } = context;
  const [wide, narrow] = {
    separate: [
      [intermediate, hidden],
      [hidden, intermediate],
    ],
    fused: [
      [count, 2 * intermediate, hidden],
      [count, hidden, intermediate],
    ],
    fused_transposed: [
      [count, hidden, 2 * intermediate],
      [count, intermediate, hidden],
    ],
  }[context.layout] as [number[], number[]];
  return [
    ...[...gate, ...up].map((name) => [name, wide] as const),
    ...down.map((name) => [name, narrow] as const),
  ];
}

/** One expert's matrix within a tensor of all of them: element (n, k) as `RoundRequest` of runtime/types.ts says. */
export interface ExpertMatrix {
  /** The name that it has in the layout `separate`. */
  readonly name: string;
  readonly matrix: number;
  readonly firstRow: number;
  readonly firstColumn: number;
  readonly rows: number;
  readonly columns: number;
  readonly transposed: boolean;
}

/**
 * The matrices that make up one fused tensor.
 * @param name as in the layout, such as `….experts.gate_up_proj`
 */
export function matricesOf(name: string, context: Sizes & Pick<ExpertsContext, 'layout'>): ExpertMatrix[] {
  const { numExperts, hiddenSize: hidden, intermediateSize: intermediate } = context;
  const transposed = context.layout === 'fused_transposed';
  const prefix = name.slice(0, name.lastIndexOf('.'));
  const { gate, up, down } = expertsWeights(prefix, { layout: 'separate', numExperts });
  const isDown = expertsWeights(prefix, { layout: 'fused', numExperts }).down.includes(name);
  return Array.from({ length: numExperts }, (_, expert) => {
    const at = (names: readonly string[], first: number): ExpertMatrix => ({
      ...{ name: names[expert] as string, matrix: expert, transposed },
      firstRow: transposed ? 0 : first,
      firstColumn: transposed ? first : 0,
      rows: isDown ? hidden : intermediate,
      columns: isDown ? intermediate : hidden,
    });
    return isDown ? [at(down, 0)] : [at(gate, 0), at(up, intermediate)];
  }).flat();
}

function sameShape(found: readonly number[] | undefined, wanted: readonly number[] | undefined): boolean {
  return found?.length === wanted?.length && (found ?? []).every((size, i) => size === wanted?.[i]);
}
