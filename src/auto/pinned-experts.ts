/** Keeps the experts that a recorded routing needs most where they are computed with. */
import type { Engine } from '../engine/engine.ts';
import { abortIf, expected, InputError, show, warn } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import type { PinnedExpertsStats } from '../model/model-parts.ts';
import type { Model } from '../models/architecture.ts';
import { checkOptions } from '../options.ts';
import { readRoutingFile } from '../routing/file.ts';
import { type HotExpert, hottestExperts, readShare } from '../routing/hottest.ts';
import { parseMemory } from '../runtime/choose-device.ts';
import type { WeightLimits } from '../runtime/device.ts';
import { memoryHere } from '../runtime/memory-here.ts';
import type { ResidencyStats } from '../runtime/residency.ts';
import type { TensorSlice, WeightStore } from '../runtime/types.ts';
import { formatBytes } from '../units.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import { type ModelCheckpoint, storedWeights } from '../weights/quantized-checkpoint.ts';
import { uploadProgress } from './load-progress.ts';

/** A file of routing records, alone or with a bound on the memory of the experts that it has pinned. */
export type PinnedExperts =
  | string
  | {
      /** As `recordRouting` and `generate --routing` write it. */
      readonly file: string;
      /** Bytes, or text such as `8GB`. Default: half of the memory that is free, or of the experts' room on a GPU. */
      readonly maxBytes?: number | string;
    };

/** How pinning is going. */
export type PinnedReport = () => PinnedExpertsStats;

/** @throws InputError for what is no such option */
export function checkPinnedExperts(option: unknown): void {
  if (option === undefined || typeof option === 'string') return;
  const { file, maxBytes } = (option ?? {}) as { file?: unknown; maxBytes?: unknown };
  if (typeof file !== 'string')
    throw new InputError(
      expected('pinnedExperts', option, 'a file of routing records, or { file, maxBytes }'),
    );
  checkOptions(option as object, ['file', 'maxBytes'], 'pinnedExperts');
  if (maxBytes !== undefined) parseMemory(maxBytes, 'pinnedExperts.maxBytes');
}

/** The experts that a file has pinned. */
export interface Pins {
  readonly file: string;
  /** Bytes; undefined for the default. */
  readonly maxBytes: number | undefined;
  readonly hottest: readonly [HotExpert, ...HotExpert[]];
}

/**
 * Reads the file of the option.
 * @param id of the model, for messages
 * @throws InputError where it is no file of routing records, one of another model, or one without any; HubError where it cannot be read
 */
export async function readPins(option: PinnedExperts, { routed }: Model, id: string): Promise<Pins> {
  const { file, maxBytes } = typeof option === 'string' ? { file: option, maxBytes: undefined } : option;
  if (!routed) throw new InputError(`pinnedExperts: ${id} has no routed experts. Leave it out`);
  const records = await readRoutingFile(file);
  const { model, layers, experts } = records.header;
  if (`${layers}` !== `${routed.layers}` || experts !== routed.count)
    throw new InputError(
      `pinnedExperts: ${file} is of ${model} with ${experts} experts in each of the layers ${layers.join(', ')}, but ${id} has ` +
        `${routed.count} in each of ${routed.layers.join(', ')}. Record the routing of this model (generate --routing)`,
    );
  const [first, ...rest] = hottestExperts(records);
  if (first === undefined)
    throw new InputError(
      `pinnedExperts: ${file} has no records. Generate something while it is being recorded`,
    );
  return {
    file,
    maxBytes: maxBytes === undefined ? undefined : parseMemory(maxBytes, 'pinnedExperts.maxBytes'),
    hottest: [first, ...rest],
  };
}

/** An expert where the checkpoint has it. */
interface StoredExpert extends HotExpert {
  /** Index of its layer. */
  readonly layer: number;
  readonly bytes: number;
  /** Its gate, or gate and up, first. */
  readonly slices: readonly [TensorSlice, ...TensorSlice[]];
}

/** The experts of a file in a checkpoint, to be kept by whoever computes with them. */
export class PlacedPins {
  readonly #pins: Pins;
  readonly #experts: readonly StoredExpert[];

  /** @throws InputError where the bound is less than the first of them takes */
  constructor(pins: Pins, model: Model, checkpoint: ModelCheckpoint) {
    this.#pins = pins;
    this.#experts = placed(pins.hottest, model, checkpoint);
    const bytes = this.#experts[0]?.bytes ?? 0;
    if (pins.maxBytes !== undefined && pins.maxBytes < bytes)
      throw new InputError(
        `pinnedExperts.maxBytes is ${show(pins.maxBytes)}, less than the ${bytes} bytes of an expert. Raise it (--pin-memory)`,
      );
  }

  /** What a GPU that does not hold all experts is told. */
  get limits(): Pick<WeightLimits, 'pinned' | 'maxPinnedBytes'> {
    const pinned = this.#experts.map(({ slices: [{ name: gate }], expert }) => ({ gate, index: expert }));
    return { pinned, maxPinnedBytes: this.#pins.maxBytes ?? 0 };
  }

  /**
   * Says what a GPU keeps, to which weights and pinned experts have been uploaded.
   * @throws InputError where that is none because all experts stay
   */
  onDevice({ weights }: Engine): PinnedReport {
    if (!weights?.stats.pinned)
      throw new InputError(
        'pinnedExperts has no effect: the GPU holds all experts. Leave it out, or bound their memory with maxMemory (--max-memory)',
      );
    return () => this.#report(weights.stats);
  }

  /**
   * Brings as many into the memory of bounded experts as stay there beside those of any layer.
   * @throws InputError where that is none; AbortError
   */
  async underBound(
    store: WeightStore,
    { signal, onProgress }: Pick<HubOptions, 'signal' | 'onProgress'>,
  ): Promise<PinnedReport> {
    const tell = uploadProgress([this.#pins.file], onProgress);
    const { bytes: all } = this.#first(this.#experts.length);
    let done = 0;
    for (const group of groups(this.#experts)) {
      abortIf(signal, 'pinning experts');
      const places = group.map(({ slices: [{ name: gate }], expert }) => ({
        gate,
        index: expert,
      }));
      const wanted = done + group.length;
      done = await store.pinExperts(places, this.#pins.maxBytes);
      tell(this.#first(done).bytes, all);
      if (done < wanted) break;
    }
    if (done === 0)
      throw new InputError(
        'none of pinnedExperts can stay: maxMemory leaves no room beside the experts of one layer, or pinnedExperts.maxBytes none for an expert ' +
          'with the blocks of the disk that it lies in. Raise them (--max-memory, --pin-memory)',
      );
    return () => this.#report(store.residency as ResidencyStats);
  }

  /** Of experts that stay among others that come and go. */
  #report({ pinned, hits, fetches, pinnedHits }: ResidencyStats): PinnedExpertsStats {
    const { experts, bytes, predictedHitRate } = this.#first(pinned);
    const reads = hits + fetches - pinned;
    return {
      ...{ experts, bytes, lockedBytes: bytes, predictedHitRate },
      ...(reads > 0 && { hitRate: pinnedHits / reads }),
    };
  }

  /**
   * Brings as many into memory as the bound allows, and locks as many of these there as the system allows, with a warning where it does not
   * allow all.
   * @throws InputError where not one fits; AbortError
   */
  async inMemory(
    store: WeightStore,
    engine: Engine,
    { signal, onProgress, onWarning }: Pick<HubOptions, 'signal' | 'onProgress' | 'onWarning'>,
  ): Promise<PinnedReport> {
    const bound = this.#pins.maxBytes ?? memoryHere().available / 2;
    const experts = withinBytes(this.#experts, bound);
    if (experts.length === 0)
      throw new InputError(
        `pinnedExperts: half of the memory that is free is ${formatBytes(bound)}, less than an expert takes. Leave it out`,
      );
    const { bytes } = this.#first(experts.length);
    const tell = uploadProgress([this.#pins.file], onProgress);
    const all = { locked: 0, read: 0 };
    for (const group of groups(experts)) {
      abortIf(signal, 'pinning experts');
      const { locked, read } = await store.pin(group.flatMap(({ slices }) => slices));
      all.locked += locked;
      all.read += read;
      tell(all.locked + all.read, bytes);
    }
    if (all.read > 0)
      warn(
        `pinnedExperts: the system lets this process lock ${formatBytes(all.locked)} of ${formatBytes(bytes)}; the other experts were read in ` +
          `and stay as long as no other use of the memory presses. Raise its limit on locked memory (${LOCK_LIMIT})`,
        onWarning,
      );
    return () => {
      const hitRate = hitRateOf(experts, engine);
      return {
        ...this.#first(experts.length),
        lockedBytes: all.locked,
        ...(hitRate !== undefined && { hitRate }),
      };
    };
  }

  #first(count: number) {
    const bytes = this.#experts.slice(0, count).reduce((sum, expert) => sum + expert.bytes, 0);
    return { experts: count, bytes, predictedHitRate: readShare(this.#pins.hottest, count) };
  }
}

const LOCK_LIMIT =
  process.platform === 'win32' ? 'the right "Lock pages", or a larger working set' : 'ulimit -l';

function placed(hottest: readonly HotExpert[], model: Model, checkpoint: ModelCheckpoint): StoredExpert[] {
  const bytes = new Map(storedWeights(checkpoint).map(({ name, byteLength }) => [name, byteLength]));
  const { layers = [], count = 0 } = model.routed ?? {};
  const names = model.expertsWeights(new CheckpointWeights(checkpoint));
  return hottest.map((hot) => {
    const { gate, up, down } = names[hot.place] as (typeof names)[number];
    const slices = [gate, up, down]
      .filter(({ length }) => length > 0)
      .map((tensors): TensorSlice => {
        const isOwn = tensors.length > 1 || count === 1;
        return {
          name: tensors[isOwn ? hot.expert : 0] as string,
          ...(isOwn ? { index: 0, count: 1 } : { index: hot.expert, count }),
        };
      });
    return {
      ...hot,
      layer: layers[hot.place] as number,
      bytes: slices.reduce((sum, { name, count }) => sum + Math.floor((bytes.get(name) ?? 0) / count), 0),
      slices: slices as [TensorSlice, ...TensorSlice[]],
    };
  });
}

function withinBytes(experts: readonly StoredExpert[], bound: number): StoredExpert[] {
  let total = 0;
  const end = experts.findIndex(({ bytes }) => {
    total += bytes;
    return total > bound;
  });
  return experts.slice(0, end < 0 ? undefined : end);
}

/** Bytes between two reports of progress, and looks at the signal. */
const GROUP_BYTES = 2 ** 28;

function* groups(experts: readonly StoredExpert[]): Generator<StoredExpert[]> {
  let [group, bytes]: [StoredExpert[], number] = [[], 0];
  for (const expert of experts) {
    group.push(expert);
    bytes += expert.bytes;
    if (bytes < GROUP_BYTES) continue;
    yield group;
    [group, bytes] = [[], 0];
  }
  if (group.length > 0) yield group;
}

/** Share of all reads of experts so far that went to some; undefined before the first. */
function hitRateOf(experts: readonly StoredExpert[], engine: Engine): number | undefined {
  const counts = engine.routerCounts();
  const all = [...counts.values()].flatMap(({ reads }) => [...reads]).reduce((a, b) => a + b, 0);
  if (all === 0) return undefined;
  const hits = experts.reduce((sum, { layer, expert }) => sum + (counts.get(layer)?.reads[expert] ?? 0), 0);
  return hits / all;
}
