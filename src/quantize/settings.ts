import type { MatrixKind } from '../models/architecture.ts';
import { MATRIX_TARGETS } from '../models/matrix-targets.ts';
import type { RoundScheme } from '../runtime/types.ts';
import type { QuantizationPlan } from './plan.ts';

interface Rounding {
  readonly scheme: RoundScheme;
  readonly kinds: Set<MatrixKind>;
  readonly modules: string[];
}

/**
 * `quantization_config` of config.json for what a plan writes, as compressed-tensors has it: a group for each way in which matrices are
 * rounded, with patterns of the modules' names.
 * @param ignored modules of the model that are linear, but not rounded
 */
export function compressedSettings(
  { matrices }: QuantizationPlan,
  ignored: readonly string[] = [],
): Record<string, unknown> {
  const roundings = new Map<string, Rounding>();
  for (const { kind, name, source } of matrices) {
    const { scheme } = source;
    const key = JSON.stringify(scheme);
    const own = roundings.get(key) ?? { scheme, kinds: new Set(), modules: [] };
    own.kinds.add(kind);
    own.modules.push(name.replace(/\.weight$/, ''));
    roundings.set(key, own);
  }
  const all = [...roundings.values()];
  // A kind of which some matrices are rounded otherwise has no pattern of its own.
  const isMixed = (kind: MatrixKind) => all.filter(({ kinds }) => kinds.has(kind)).length > 1;
  const groups = all.map(({ scheme, kinds, modules }) =>
    groupOf(scheme, [...kinds].some(isMixed) ? modules : [...kinds].map((kind) => MATRIX_TARGETS[kind])),
  );
  const formats = new Set(groups.map(({ format }) => format));
  return {
    quant_method: 'compressed-tensors',
    format: formats.size === 1 ? [...formats][0] : 'mixed-precision',
    quantization_status: 'compressed',
    config_groups: Object.fromEntries(groups.map((group, i) => [`group_${i}`, group])),
    ignore: ignored,
    kv_cache_scheme: null,
  };
}

function groupOf(scheme: RoundScheme, targets: readonly string[]) {
  const int4 = scheme.bits === 4;
  return {
    format: int4 ? 'pack-quantized' : 'int-quantized',
    targets,
    input_activations: null,
    output_activations: null,
    weights: {
      num_bits: scheme.bits,
      type: 'int',
      symmetric: !(int4 && scheme.zeroPoints),
      strategy: int4 ? 'group' : 'channel',
      group_size: int4 ? scheme.group : null,
      dynamic: false,
      actorder: null,
      block_structure: null,
      observer: 'mse',
      observer_kwargs: {},
    },
  };
}
