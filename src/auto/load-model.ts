import { type DType, dtypeOf } from '../dtype.ts';
import { Engine } from '../engine/engine.ts';
import type { EngineOptions } from '../engine/open-graph.ts';
import type { Head } from '../engine/sessions.ts';
import { SoundRuntime } from '../engine/sound-runner.ts';
import { sees, VisionRuntime } from '../engine/vision-runner.ts';
import { abortIf, CheckpointError, ConfigError, InputError, show, warn } from '../errors.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { resolveExperts } from '../experts/resolve.ts';
import { unservedSettings } from '../generation/generation-config.ts';
import type { SizedWeight } from '../graph/weight-source.ts';
import type { Repo } from '../hub/types.ts';
import type { ModelParts } from '../model/model-parts.ts';
import { textBackend } from '../model/pretrained-model.ts';
import type { Model } from '../models/architecture.ts';
import { checkDevice } from '../runtime/choose-device.ts';
import type { DeviceWeights } from '../runtime/device.ts';
import { OpeningDevice } from '../runtime/opening-device.ts';
import type { WeightStore } from '../runtime/types.ts';
import { openWeightStore } from '../runtime/weight-store.ts';
import type { CheckpointListener } from '../safetensors/checkpoint.ts';
import { assertComplete, listed } from '../weights/checkpoint-weights.ts';
import type { ModuleReader } from '../weights/formats/format.ts';
import { type ModelCheckpoint, storedWeights, uncheckedWeights } from '../weights/quantized-checkpoint.ts';
import { roundsActivations } from './activation-quantization.ts';
import { matchWeights } from './check-model.ts';
import { checkBound, expertBounds } from './expert-bounds.ts';
import { type LoadedGenerationConfig, loadConfig, loadGenerationConfig } from './load-config.ts';
import { checkLoadOptions, type LoadOptions } from './load-options.ts';
import { headerProgress, uploadProgress } from './load-progress.ts';
import { openModelCheckpoint } from './model-checkpoint.ts';
import { modelIdentity } from './model-identity.ts';
import { type ModelSource, openRepo } from './open-repo.ts';
import { type PinnedReport, type Pins, PlacedPins, readPins } from './pinned-experts.ts';
import { defaultPrefixBytes } from './prefix-cache-options.ts';
import { ImageTextPromptReader, TextPromptReader } from './prompt-reader.ts';
import { openQuantization } from './quantization.ts';
import { roundWeights } from './round-weights.ts';
import { assertZero } from './surplus-biases.ts';
import { warnOfMemory } from './warn-of-memory.ts';
import { PACKED_ON_GPU } from './weight-pages.ts';

/** Finds, checks and opens a model. */
export async function loadModel(
  source: ModelSource,
  options: LoadOptions,
  head: Head,
  kind: 'text' | 'image-text' = 'text',
): Promise<ModelParts> {
  const checked = checkLoadOptions(options);
  await checkDevice(options.device);
  const gpu = new OpeningDevice(options.device ?? 'cpu');
  try {
    return await openModel(source, options, checked, head, kind, gpu);
  } finally {
    await gpu.release();
  }
}

async function openModel(
  source: ModelSource,
  options: LoadOptions,
  { packed, maxMemory, prefixBytes, maxCacheBytes }: ReturnType<typeof checkLoadOptions>,
  head: Head,
  kind: 'text' | 'image-text',
  gpu: OpeningDevice,
): Promise<ModelParts> {
  const repo = await openRepo(source, options);
  const idOrFolder = repo.id;
  const { json, model: described } = await loadConfig(repo, options.config, options);
  const model = kind === 'text' ? (described.languageModel ?? described) : described;
  checkKind(model, kind, idOrFolder);
  const prompts = await promptReader(repo, model, kind);
  const { pinnedExperts } = options;
  const pins = pinnedExperts === undefined ? undefined : await readPins(pinnedExperts, model, idOrFolder);
  const expertsModel = {
    subConfigs: model.subConfigs,
    hasExperts: model.routed !== undefined,
    fromConfig: json,
  };
  const quantization = await openQuantization(repo, json, (message) => warn(message, options.onWarning));
  const experts = resolveExperts(options.expertsImplementation, expertsModel);
  const generationConfig = await loadGenerationConfig(repo, json);
  const listener = listenerFor(repo, model, quantization, options, gpu);
  const opened = await openModelCheckpoint(repo, model, quantization, listener);
  const checkpoint = fillMissing(model, opened, head, options);
  abortIf(options.signal, `loading ${idOrFolder}`);
  const dtype = chooseDtype(options.dtype, model, checkpoint);
  const cacheDtype = await chooseCacheDtype(options, dtype, gpu);
  if (packed && !(await gpu.isCpu())) throw new InputError(PACKED_ON_GPU);
  const { report, resident } = matchWeights(model, checkpoint, head);
  assertHead(model, report.missing, idOrFolder);
  assertComplete(report, checkpoint.files);
  await assertZero(checkpoint, report.surplusBiases);
  warnUnexpected(report.unexpected, idOrFolder, options);
  warnUnserved(generationConfig, options);
  const onPlan = await planCheck(maxMemory, model, idOrFolder, gpu);
  const request = {
    idOrFolder,
    model,
    checkpoint: await roundWeights(model, checkpoint, options.quantization, idOrFolder, {
      ...options,
      onPlan,
    }),
    resident,
    gpu,
    dtype,
    cacheDtype,
    head,
    maxMemory,
    prefixBytes,
    maxCacheBytes,
    packed,
    backend: textBackend(experts),
    pins,
  };
  const { engine, towers, pinned, release } = await openRuntimes(request, options);
  const { maxCacheLength = Number.POSITIVE_INFINITY } = options;
  const contextLength = Math.min(model.contextLength, maxCacheLength, engine.mostPositions);
  return {
    ...{ idOrFolder, model, config: json, generationConfig, dtype },
    ...{ engine, contextLength, expertsModel, experts, release },
    ...(pinned && { pinned }),
    identity: once(() => modelIdentity(model, json, request.checkpoint)),
    weights: storedWeights(request.checkpoint),
    prompts,
    warn: (message) => warn(message, options.onWarning),
    decodeWithBatchedMm: options.decodeWithBatchedMm ?? true,
    threads: options.threads,
    maxMemory,
    ...towers,
  };
}

/** What reads prompts for a model; where it sees, the repo's processor has to fit it. */
async function promptReader(repo: Repo, { media }: Model, kind: 'text' | 'image-text') {
  if (kind === 'text' || !media) return new TextPromptReader(repo);
  const reader = new ImageTextPromptReader(repo, media);
  await reader.check();
  return reader;
}

/** Does the work when it is first asked for. */
function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined;
  return () => {
    done ??= work();
    return done;
  };
}

/** What the runtimes of a checked model are made of. */
interface RuntimesRequest {
  readonly idOrFolder: string;
  readonly model: Model;
  readonly checkpoint: ModelCheckpoint;
  /** Names of what a device keeps of it, with the built-in backends. */
  readonly resident: readonly string[];
  readonly gpu: OpeningDevice;
  readonly dtype: DType;
  readonly cacheDtype: DType;
  readonly head: Head;
  /** Bytes. */
  readonly maxMemory: number | undefined;
  /** Bytes. */
  readonly prefixBytes: number | undefined;
  /** Bytes. */
  readonly maxCacheBytes: number | undefined;
  /** Of the text model. */
  readonly backend: string;
  readonly pins: Pins | undefined;
  readonly packed: boolean;
}

/** Opens a model's weights and sessions where it is to compute; after a failure nothing of them is left. */
async function openRuntimes(request: RuntimesRequest, options: LoadOptions) {
  const { model, checkpoint, dtype, cacheDtype, head, backend } = request;
  const pins = request.pins && new PlacedPins(request.pins, model, checkpoint);
  // What has been opened, to be freed from the last to the first.
  const opened: (() => Promise<void> | void)[] = [];
  const release = async () => {
    for (let free = opened.pop(); free; free = opened.pop()) await free();
  };
  try {
    const { tensors, quantized = new Map() } = checkpoint;
    const store = openWeightStore(tensors.values(), quantized.values(), { packed: request.packed });
    opened.push(() => store.dispose());
    await store.checkScales(uncheckedWeights(checkpoint));
    const weights = await openDeviceWeights(store, request, pins);
    if (weights)
      opened.push(
        () => weights.device.dispose(),
        () => weights.dispose(),
      );
    const { idOrFolder, maxMemory } = request;
    const bounds =
      weights || maxMemory === undefined
        ? undefined
        : expertBounds(maxMemory, model, storedWeights(checkpoint), idOrFolder);
    if (bounds) store.boundExperts(bounds);
    const int8Activations = roundsActivations(options.activationQuantization, {
      ...{ id: idOrFolder, quantized, dtype },
      onGpu: weights !== undefined,
    });
    const onUpload = uploadProgress(checkpoint.files, options.onProgress);
    // The graphs are built, and their sessions opened, meanwhile. Of other backends it is not known what they use on a device.
    if (ExpertsInterface.isBuiltIn(backend))
      weights?.bringAhead(
        request.resident.map((name) => store.handle(name)),
        onUpload,
        options.signal,
      );
    const onWarning = (message: string) => warn(message, options.onWarning);
    const { prefixBytes = defaultPrefixBytes(weights?.device), maxCacheBytes } = request;
    const common = { dtype, int8Activations, threads: options.threads, weights, onUpload, onWarning };
    const towers = openTowers(model, checkpoint, store, common);
    for (const tower of Object.values(towers)) opened.push(() => tower.dispose());
    const cache = { cacheDtype, prefixBytes, maxCacheBytes };
    const engine = new Engine(model, checkpoint, store, { ...common, ...cache });
    opened.push(() => engine.dispose());
    if (engine.mostPositions < 1)
      throw new InputError(
        `maxCacheBytes is ${show(options.maxCacheBytes)}, too little for a single block of the model's cache: a sequence takes at least ` +
          `${engine.leastCacheBytes} bytes, for a block of positions and a second that it is copied to when it is shared. Raise it (--max-cache)`,
      );
    engine.assertSupported(backend);
    if (weights) for (const tower of Object.values(towers)) await tower.prepare(options.signal);
    await engine.prepare({ head, intermediates: false, visual: false }, backend, options.signal);
    const pinned = await pin(pins, store, engine, bounds !== undefined, options);
    return { engine, towers, pinned, release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Keeps experts where they are computed with. */
async function pin(
  pins: PlacedPins | undefined,
  store: WeightStore,
  engine: Engine,
  bounded: boolean,
  options: LoadOptions,
): Promise<PinnedReport | undefined> {
  if (engine.weights) return pins?.onDevice(engine);
  return bounded ? pins?.underBound(store, options) : pins?.inMemory(store, engine, options);
}

/** What sees, and what hears. */
function openTowers(
  model: Model,
  ...rest: readonly [ModelCheckpoint, WeightStore, EngineOptions]
): Pick<ModelParts, 'vision' | 'hearing'> {
  if (!sees(model)) return {};
  const vision = new VisionRuntime(model, ...rest);
  const { sound } = model.media;
  return sound ? { vision, hearing: new SoundRuntime(model, sound, ...rest) } : { vision };
}

/** The weights on the device asked for; undefined for the CPU. */
async function openDeviceWeights(
  store: WeightStore,
  { dtype, gpu, maxMemory }: Pick<RuntimesRequest, 'dtype' | 'gpu' | 'maxMemory'>,
  pins: PlacedPins | undefined,
): Promise<DeviceWeights | undefined> {
  const opened = await gpu.take();
  try {
    return opened?.openWeights(store, dtype, { maxBytes: maxMemory ?? 0, ...pins?.limits });
  } catch (error) {
    await opened?.dispose();
    throw error;
  }
}

/** The checkpoint, with zeros for those missing tensors that the caller can do without. */
function fillMissing(
  model: Model,
  checkpoint: ModelCheckpoint,
  head: Head,
  { allowMissing = [], onWarning }: LoadOptions,
): ModelCheckpoint {
  if (allowMissing.length === 0) return checkpoint;
  const { report, weights } = matchWeights(model, checkpoint, head);
  const filled = report.missing.filter((name) => allowMissing.includes(name));
  if (filled.length > 0)
    warn(`missing tensors are taken as zeros, as allowMissing says: ${listed(filled)}`, onWarning);
  const zeros = filled.map((name) => [name, weights.zeros(name)] as const);
  return { ...checkpoint, tensors: new Map([...checkpoint.tensors, ...zeros]) };
}

/** A checkpoint that lacks nothing but the output head was saved without one. */
function assertHead(model: Model, missing: readonly string[], idOrFolder: string): void {
  if (missing.length === 0 || missing.some((name) => model.work.use(name).part !== 'head')) return;
  throw new CheckpointError(
    `${idOrFolder} has no output head (${missing.join(', ')}), as models for embeddings and rewards are saved. Load it with AutoModel; ` +
      'if the head is the embedding, config.json says so with tie_word_embeddings: true',
  );
}

function checkKind(model: Model, kind: 'text' | 'image-text', idOrFolder: string): void {
  if (sees(model) === (kind === 'image-text')) return;
  const [what, use] = sees(model)
    ? ['an image-text model', 'AutoModelForImageTextToText']
    : ['a text model', 'AutoModelForCausalLM'];
  throw new ConfigError(
    `${idOrFolder}: config.json says model_type "${model.modelType}", ${what}; load it with ${use}`,
  );
}

/** On the CPU, what is told of memory and headers. A GPU reads the weights once, into its own memory, and tells of that. */
function listenerFor(
  repo: Repo,
  model: Model,
  reader: ModuleReader | undefined,
  { maxMemory, quantization, onWarning, onProgress }: LoadOptions,
  gpu: OpeningDevice,
): CheckpointListener {
  const progress = headerProgress(repo, onProgress);
  let isCpu = false;
  return {
    onHere: () => gpu.start(),
    onOpen(name) {
      if (isCpu) progress.onOpen?.(name);
    },
    async onFiles(names) {
      isCpu = await gpu.isCpu();
      if (!isCpu) return;
      // A bound says what the weights may take, and what happens to others.
      if (maxMemory === undefined)
        await warnOfMemory(repo, names, {
          model,
          isQuantized: reader !== undefined,
          quantization,
          onWarning,
        });
      await progress.onFiles?.(names);
    },
  };
}

/** HF: the config's dtype, else that of the first floating-point tensor. */
function chooseDtype(asked: LoadOptions['dtype'], { declared }: Model, checkpoint: ModelCheckpoint): DType {
  if (asked !== undefined && asked !== 'auto') return asked;
  if (declared.dtype) return declared.dtype;
  const all = [...checkpoint.tensors.values()];
  if (all.some(({ dtype }) => dtype === 'F64')) return 'float32';
  if (declared.fault !== undefined)
    throw new ConfigError(`${declared.fault}. Choose one with the option dtype (--dtype)`);
  for (const tensor of all) {
    const dtype = dtypeOf(tensor.dtype);
    if (dtype) return dtype;
  }
  throw new CheckpointError(`${checkpoint.files.join(', ')}: no tensor of dtype F32, F16 or BF16`);
}

/** The model's own, unless asked otherwise. */
async function chooseCacheDtype(
  { cacheDtype }: LoadOptions,
  dtype: DType,
  gpu: OpeningDevice,
): Promise<DType> {
  if (cacheDtype === undefined || cacheDtype === dtype) return dtype;
  if (await gpu.isCpu()) return cacheDtype;
  throw new InputError(
    `cacheDtype is ${show(cacheDtype)}, but on a GPU the cache has the model's dtype, ${show(dtype)}; leave cacheDtype out`,
  );
}

/** What looks at the weights that are to be made, where the CPU has a bound on them. */
async function planCheck(maxMemory: number | undefined, model: Model, id: string, gpu: OpeningDevice) {
  if (maxMemory === undefined || !(await gpu.isCpu())) return undefined;
  return (weights: readonly SizedWeight[]) => checkBound(maxMemory, model, weights, id);
}

function warnUnexpected(names: readonly string[], idOrFolder: string, options: LoadOptions): void {
  if (names.length === 0) return;
  warn(`${idOrFolder} holds tensors that the architecture does not use: ${listed(names)}`, options.onWarning);
}

function warnUnserved({ json, file }: LoadedGenerationConfig, { onWarning }: LoadOptions): void {
  const settings = unservedSettings(json);
  if (settings.length > 0) warn(`${file} has settings without effect here: ${listed(settings)}`, onWarning);
}
