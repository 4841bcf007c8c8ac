import { isWeightDType } from '../dtype.ts';
import { CheckpointError } from '../errors.ts';
import type { WeightInfo, WeightSource } from '../graph/weight-source.ts';
import { type TensorInfo, ZEROS } from '../safetensors/types.ts';
import type { ModelCheckpoint } from './quantized-checkpoint.ts';
import type { QuantizedTensor } from './quantized-tensor.ts';

/** What the engine's weight store offers a graph. */
interface Store {
  handle(name: string): number;
  readFloat32(name: string): Float32Array;
}

/** The outcome of matching a checkpoint against what an architecture asks for. */
export interface LoadReport {
  /** Tensors the architecture needs and the checkpoint does not have. */
  readonly missing: readonly string[];
  /** Tensors of another shape or an unusable dtype: one clause each, naming tensor and file. */
  readonly mismatched: readonly string[];
  /** Whether some are of an element type that nothing computes with. */
  readonly hasOtherDtypes: boolean;
  /** Tensors nobody asked for. */
  readonly unexpected: readonly string[];
  /** Those of them that belong to experts beyond the configured count: config.json and weights are of different models. */
  readonly surplusExperts: readonly string[];
  /** Biases of quantized weights that nobody asked for: some tools store zeros beside every module. Not among `unexpected`. */
  readonly surplusBiases: readonly string[];
}

/** What the model says about a tensor by its name. */
interface Use {
  readonly part: string;
  readonly isSurplusExpert: boolean;
}

const LISTED_TENSORS = 10;
/**
 * Missing tensors after which a config.json has nothing to do with these weights: building on would take time and memory by its numbers,
 * not by what is there.
 */
const MOST_MISSING = 10_000;

/** A checkpoint as a source of graph weights, recording what is asked for and what does not fit. */
export class CheckpointWeights implements WeightSource {
  readonly #checkpoint: ModelCheckpoint;
  readonly #quantized: ReadonlyMap<string, QuantizedTensor>;
  readonly #store: Store | undefined;
  readonly #requested = new Set<string>();
  readonly #missing = new Map<string, readonly number[]>();
  readonly #mismatched = new Map<string, string>();
  #hasOtherDtypes = false;

  /** @param store without one the graph can be built to check the checkpoint, but not run */
  constructor(checkpoint: ModelCheckpoint, store?: Store) {
    this.#checkpoint = checkpoint;
    this.#quantized = checkpoint.quantized ?? new Map();
    this.#store = store;
  }

  info(name: string): WeightInfo | undefined {
    const weight = this.#quantized.get(name);
    return weight ? quantizedInfo(weight) : this.#checkpoint.tensors.get(name);
  }

  request(name: string, shape: readonly number[]): WeightInfo | undefined {
    this.#requested.add(name);
    const weight = this.#quantized.get(name);
    if (weight) return this.#requestQuantized(weight, shape);
    const tensor = this.#checkpoint.tensors.get(name);
    if (!tensor) {
      this.#missing.set(name, shape);
      if (this.#missing.size > MOST_MISSING) throw this.#unrelated();
      return undefined;
    }
    const where = `${name} in ${tensor.file}`;
    // Those are narrowed before anything is computed with them.
    const isWide = tensor.dtype === 'F64' && this.#store === undefined;
    if (!isWeightDType(tensor.dtype) && !isWide) {
      this.#hasOtherDtypes = true;
      this.#mismatched.set(name, `${where} has dtype ${tensor.dtype}; expected F32, F16 or BF16`);
      return undefined;
    }
    if (!sameShape(tensor.shape, shape)) {
      this.#mismatched.set(name, `${where} has shape [${tensor.shape}]; expected [${shape}] by config.json`);
      return undefined;
    }
    return tensor;
  }

  #requestQuantized(weight: QuantizedTensor, shape: readonly number[]): WeightInfo | undefined {
    if (sameShape(weight.shape, shape)) return quantizedInfo(weight);
    const { name, file } = weight.codes.tensor;
    this.#mismatched.set(
      weight.name,
      `${name} in ${file} holds a weight of shape [${weight.shape}]; expected [${shape}] by config.json`,
    );
    return undefined;
  }

  integers(name: string, shape: readonly number[]): readonly bigint[] | undefined {
    const tensor = this.#checkpoint.tensors.get(name);
    if (!tensor) return undefined;
    this.#requested.add(name);
    const values = this.#checkpoint.integers?.get(name);
    if (values && sameShape(tensor.shape, shape)) return values;
    this.#mismatched.set(
      name,
      `${name} in ${tensor.file} has dtype ${tensor.dtype} and shape [${tensor.shape}]; expected I64 [${shape}] by config.json`,
    );
    return undefined;
  }

  handle(name: string): number {
    return this.#store && this.#fits(name) ? this.#store.handle(name) : -1;
  }

  readFloat32(name: string): Float32Array {
    const elements = this.info(name)?.shape.reduce((a, b) => a * b, 1) ?? 0;
    return this.#store && this.#fits(name) ? this.#store.readFloat32(name) : new Float32Array(elements);
  }

  /** Stands in for a missing tensor: fp32 zeros of the shape that was asked for. */
  zeros(name: string): TensorInfo {
    const shape = this.#missing.get(name) ?? [];
    const byteLength = 4 * shape.reduce((a, b) => a * b, 1);
    return { name, file: ZEROS, offset: 0, byteLength, dtype: 'F32', shape };
  }

  #unrelated(): CheckpointError {
    const { files, tensors } = this.#checkpoint;
    return new CheckpointError(
      `${files.join(', ')}: config.json asks for more than ${MOST_MISSING} tensors that are not among the ${tensors.size} here, such as ` +
        `${listed([...this.#missing.keys()].slice(0, 3))}. Check its numbers of layers and experts, and that it belongs to these weights`,
    );
  }

  #fits(name: string): boolean {
    return !this.#missing.has(name) && !this.#mismatched.has(name);
  }

  #isBiasOfQuantized(name: string): boolean {
    return name.endsWith('.bias') && this.#quantized.has(`${name.slice(0, -'.bias'.length)}.weight`);
  }

  /** @param use what the model says about a tensor; what it knows of and does not read is not reported */
  report(use: (tensor: string) => Use): LoadReport {
    const left = [...this.#checkpoint.tensors.keys(), ...this.#quantized.keys()].filter(
      (name) => !this.#requested.has(name) && use(name).part !== 'unread',
    );
    const surplusBiases = left.filter((name) => this.#isBiasOfQuantized(name));
    const unexpected = left.filter((name) => !this.#isBiasOfQuantized(name));
    return {
      missing: [...this.#missing.keys()],
      mismatched: [...this.#mismatched.values()],
      hasOtherDtypes: this.#hasOtherDtypes,
      unexpected,
      surplusBiases,
      surplusExperts: unexpected.filter((name) => use(name).isSurplusExpert),
    };
  }
}

function quantizedInfo({ shape, codes }: QuantizedTensor): WeightInfo {
  return { dtype: codes.tensor.dtype, shape, quantized: { type: codes.type, bits: codes.bits } };
}

function sameShape(found: readonly number[], wanted: readonly number[]): boolean {
  return found.length === wanted.length && found.every((size, i) => size === wanted[i]);
}

/**
 * @param files what to call the checkpoint in the message
 * @throws CheckpointError listing missing and mismatched tensors
 */
export function assertComplete(report: LoadReport, files: readonly string[]): void {
  const faults: string[] = [];
  if (report.missing.length > 0) faults.push(`missing: ${listed(report.missing)}`);
  if (report.mismatched.length > 0) faults.push(`mismatched: ${listed(report.mismatched, '; ')}`);
  if (report.surplusExperts.length > 0)
    faults.push(`experts beyond num_experts in config.json: ${listed(report.surplusExperts)}`);
  if (faults.length === 0) return;
  const remedy = report.hasOtherDtypes
    ? 'Save the model in one of these types, as with model.to(torch.float32).save_pretrained(…) in Python'
    : 'Download the checkpoint again, or check that config.json belongs to these weights';
  throw new CheckpointError(
    `${files.join(', ')}: the tensors do not fit the architecture; ${faults.join('; ')}. ${remedy}`,
  );
}

/** At most ten names, and how many more there are. */
export function listed(names: readonly string[], separator = ', '): string {
  const shown = names.slice(0, LISTED_TENSORS).join(separator);
  return names.length > LISTED_TENSORS ? `${shown} and ${names.length - LISTED_TENSORS} more` : shown;
}
