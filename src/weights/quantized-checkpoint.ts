import { CheckpointError } from '../errors.ts';
import type { StoredWeight } from '../graph/weight-source.ts';
import type { Checkpoint, TensorInfo } from '../safetensors/types.ts';
import type { ModuleReader } from './formats/format.ts';
import { StoredModule } from './formats/module.ts';
import { withinTime } from './formats/patterns.ts';
import { codedBytesOnGpu } from './gpu-form.ts';
import type { QuantizedTensor } from './quantized-tensor.ts';

/** A checkpoint under the names by which a model asks. */
export interface ModelCheckpoint extends Checkpoint {
  /** Weights that are stored as codes, if any; tensors that only they consist of are not among `tensors`. */
  readonly quantized?: ReadonlyMap<string, QuantizedTensor>;
  /** The file of those that Switchyard rounded itself, in which no value is damaged. */
  readonly kept?: string;
  /** What small int64 tensors hold. */
  readonly integers?: ReadonlyMap<string, readonly bigint[]>;
}

/** Names of the quantized weights whose values nobody has looked at. */
export function uncheckedWeights({ quantized = new Map(), kept }: ModelCheckpoint): string[] {
  return [...quantized].filter(([, { codes }]) => codes.tensor.file !== kept).map(([name]) => name);
}

/** All weights of a checkpoint, plain and quantized. */
export function storedWeights({ tensors, quantized = new Map() }: ModelCheckpoint): StoredWeight[] {
  const plain = [...tensors.values()].map(({ name, shape, dtype, byteLength }) => ({
    ...{ name, shape, byteLength },
    storage: dtype,
  }));
  const codes = [...quantized.values()].map((weight) => {
    const gpuBytes = codedBytesOnGpu(weight);
    return {
      ...{ name: weight.name, shape: weight.shape },
      storage: codeName(weight.codes),
      ...(meetsBytes(weight) && { meetsBytes: true as const }),
      byteLength: partsOf(weight).reduce((sum, part) => sum + part.byteLength, 0),
      ...(gpuBytes !== undefined && { gpuBytes }),
    };
  });
  return [...plain, ...codes];
}

/** Codes whose products with bytes the kernels have. */
const INTEGERS: readonly string[] = ['int', 'uint', 'float4_e2m1'];

/**
 * Whether the kernels multiply such codes with bytes, as `IntegerForm::Of` in kernels/cpu/quantized/integer.cc decides: activations are
 * rounded in blocks of 32, each of which has to lie in one group.
 */
export function meetsBytes({ codes, scales, shape }: QuantizedTensor): boolean {
  if (!INTEGERS.includes(codes.type) || (codes.bits !== 4 && codes.bits !== 8)) return false;
  if (typeof scales.group === 'number') return false;
  const [, columns] = scales.group;
  return columns % 32 === 0 || columns >= (shape.at(-1) ?? 0);
}

/** The codes of a weight in a word: `int4`, `int8`, `float8_e4m3`, `float4_e2m1`; `table4` for codes that are looked up. */
function codeName({ type, bits }: Pick<QuantizedTensor['codes'], 'type' | 'bits'>): string {
  if (type === 'uint' || type === 'int') return `int${bits}`;
  return type === 'table' ? `table${bits}` : type;
}

/** The tensors that a weight consists of. */
function partsOf({ codes, scales, zero, biases, columnGroups }: QuantizedTensor): TensorInfo[] {
  const { multiplier, divisor, table } = scales;
  const all = [codes.tensor, codes.table, scales.tensor, multiplier, divisor, table?.values, table?.scales];
  const parts = [...all, typeof zero === 'object' ? zero.tensor : undefined, biases, columnGroups];
  return parts.filter((part) => typeof part === 'object');
}

/** Reads the bytes of small tensors, in their order. */
export type ReadTensors = (tensors: readonly TensorInfo[]) => Promise<Buffer[]>;

/**
 * The weights of a quantized checkpoint: module by module, its tensors decide whether and how it is quantized.
 * @throws CheckpointError for parts that are missing or do not fit, naming tensor and file
 */
export async function readQuantized(
  checkpoint: Checkpoint,
  reader: ModuleReader,
  readTensors: ReadTensors,
): Promise<ModelCheckpoint> {
  const modules = new Map<string, StoredModule>();
  const tensors = new Map<string, TensorInfo>();
  for (const [name, tensor] of checkpoint.tensors) {
    const split = reader.split(name, tensor.dtype);
    if (split?.ignored) continue;
    if (split) moduleOf(modules, split.module).add(split.part, tensor);
    else tensors.set(name, tensor);
  }
  await readValues(modules, reader.values ?? [], readTensors);
  const weights = withinTime(
    () => [...modules.values()].map((module) => reader.read(module)),
    modules.size,
    checkpoint.files.join(', '),
  );
  const quantized = new Map<string, QuantizedTensor>();
  for (const [i, module] of [...modules.values()].entries()) {
    const weight = weights[i];
    if (weight) quantized.set(weight.name, weight);
    else for (const [part, tensor] of module.parts) tensors.set(`${module.name}${part}`, tensor);
  }
  return { files: checkpoint.files, tensors, quantized };
}

const CODES = /\.(?:qweight|weight_packed|absmax|SCB)$|_scale_inv$/;

/** A tensor that only quantized weights have: by its name, or one of codes that is called like a weight. */
export function findCodes(tensors: ReadonlyMap<string, TensorInfo>): TensorInfo | undefined {
  for (const [name, tensor] of tensors) {
    const { dtype, shape } = tensor;
    const isMatrixOfCodes = CODE_DTYPES.has(dtype) && shape.length > 1 && name.endsWith('.weight');
    if (CODES.test(name) || isMatrixOfCodes) return tensor;
  }
  return undefined;
}

const CODE_DTYPES: ReadonlySet<string> = new Set(['U8', 'I8', 'I32', 'U32', 'F8_E4M3', 'F8_E5M2', 'F4']);

function moduleOf(modules: Map<string, StoredModule>, name: string): StoredModule {
  const known = modules.get(name);
  if (known) return known;
  const module = new StoredModule(name);
  modules.set(name, module);
  return module;
}

/** Such tensors hold a shape or a line of JSON. */
const LARGEST_VALUE = 64 * 1024;

async function readValues(
  modules: ReadonlyMap<string, StoredModule>,
  parts: readonly string[],
  readTensors: ReadTensors,
): Promise<void> {
  const wanted = [...modules.values()].flatMap((module) =>
    parts.flatMap((part) => {
      const tensor = module.find(part);
      return tensor ? [{ module, part, tensor }] : [];
    }),
  );
  const large = wanted.find(({ tensor }) => tensor.byteLength > LARGEST_VALUE);
  if (large)
    throw new CheckpointError(
      `${large.tensor.file}: ${large.tensor.name} has ${large.tensor.byteLength} bytes; at most ${LARGEST_VALUE} make sense`,
    );
  const values = await readTensors(wanted.map(({ tensor }) => tensor));
  for (const [i, { module, part }] of wanted.entries()) module.keep(part, values[i] as Buffer);
}
