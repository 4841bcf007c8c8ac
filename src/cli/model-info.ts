import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { type ExpectedTensor, expectedWeights } from '../auto/expected-weights.ts';
import { type LoadedConfig, loadConfig } from '../auto/load-config.ts';
import { modelNeeds } from '../auto/model-needs.ts';
import { resolveRepo } from '../auto/open-repo.ts';
import { findQuantization } from '../auto/quantization.ts';
import { listStoredWeights, type StoredWeight } from '../auto/stored-weights.ts';
import { bytesPerDecodedToken, storageOf, weightWork } from '../bench/work.ts';
import { HubError } from '../errors.ts';
import { freeSpace } from '../files.ts';
import { measureDiskRate } from '../fit/disk-rate.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import type { TokenWork } from '../models/architecture.ts';
import { weightFileNames } from '../safetensors/checkpoint.ts';
import { type Fit, fitHere } from './fit-report.ts';

/** What config.json and the headers of the weights tell about a model. */
export interface ModelInfo {
  model: string;
  /** Commit of a repo; absent for a folder. */
  commit?: string;
  architecture: string;
  /** Numbers of weights: stored, and read for one token. Embeddings count in both, as is usual. */
  parameters: { total: number; active: number };
  layers: number;
  /** Layers that route to experts; the others have one dense MLP. */
  moeLayers: number;
  experts: number;
  expertsPerToken: number;
  hiddenSize: number;
  vocabSize: number;
  /** Positions. */
  contextLength: number;
  /** What most weights are stored as, such as `bfloat16` or `int4`; without weights, what config.json says. */
  dtype: string;
  /** How the repo says that it is quantized, such as `gptq`; absent where it does not. */
  quantization?: string;
  /** Bits that a weight takes on average, scales included, and bytes of weights that one decoded token reads; absent without weights. */
  bitsPerWeight?: number;
  bytesPerDecodedToken?: number;
  /**
   * Whether weights are computed with where they lie in the files, or some of them repacked first: float64 ones, which are kept as float32
   * in SWITCHYARD_CACHE. Absent without weights.
   */
  reading?: 'in place' | 'repacked';
  /** Weights on this disk; empty where they are not, and the numbers follow from config.json. */
  files: { name: string; bytes: number }[];
  /** Weights that are not on this disk: their files on the Hub, and the bytes that are free where they would go. */
  hub?: { files: { name: string; bytes: number }[]; bytes: number; folder: string; freeBytes?: number };
  /** What the model needs of this machine; absent where neither config nor files tell what weights take. */
  fit?: Fit;
}

/**
 * Reads config.json and the headers of the weights. No weight is read or fetched: where the weights are not on this disk, the
 * architecture says which there must be, and the Hub how large their files are.
 */
export async function modelInfo(idOrFolder: string, options: HubOptions): Promise<ModelInfo> {
  const repo = await resolveRepo(idOrFolder, options);
  const config = await loadConfig(repo);
  const { model, json } = config;
  const quantization = await findQuantization(repo, json);
  const stored = await weightsOnDisk(idOrFolder, repo, config, options);
  const hub = stored ? undefined : await weightsOnHub(repo);
  const needs = modelNeeds(model, {
    stored: stored?.weights,
    fileBytes: hub?.bytes,
    isQuantized: quantization !== undefined,
  });
  const { routed, caches } = model;
  return {
    model: repo.id,
    ...(repo.commit !== undefined && { commit: repo.commit }),
    architecture: model.modelType,
    parameters: countParameters(stored?.weights ?? expectedWeights(model), model.work),
    layers: caches.length,
    moeLayers: routed?.layers.length ?? 0,
    experts: routed?.count ?? 0,
    expertsPerToken: routed?.perToken ?? 0,
    hiddenSize: model.hiddenSize,
    vocabSize: model.vocabSize,
    contextLength: model.contextLength,
    dtype: stored ? (storageOf(stored.weights).kinds[0] ?? 'none') : (model.declared.dtype ?? 'unknown'),
    ...(quantization && { quantization: quantization.method }),
    ...(stored && sizesOf(stored.weights, model.work)),
    files: stored?.files.map(({ name, bytes }) => ({ name, bytes })) ?? [],
    ...(hub && { hub }),
    ...(needs && {
      fit: await fitHere(needs, async () => stored?.files[0] && measureDiskRate(stored.files[0].path)),
    }),
  };
}

/** What the Hub has of weights that are not here; undefined for a folder, and where it cannot be asked. */
async function weightsOnHub(repo: Repo): Promise<ModelInfo['hub']> {
  const { cacheFolder } = repo;
  if (cacheFolder === undefined) return undefined;
  const names = await weightFileNames(repo);
  const seen = await Promise.all(names.map((name) => repo.look?.(name)));
  const files = names.map((name, i) => ({ name, bytes: seen[i]?.size ?? 0 }));
  const free = await freeSpace(cacheFolder);
  return {
    files,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    folder: cacheFolder,
    ...(free !== undefined && { freeBytes: free }),
  };
}

function sizesOf(weights: readonly StoredWeight[], work: TokenWork) {
  const isRepacked = weights.some(({ storage }) => storage === 'F64');
  return {
    bitsPerWeight: Number(storageOf(weights).bits.toFixed(3)),
    bytesPerDecodedToken: bytesPerDecodedToken(weightWork(weights, work)),
    reading: isRepacked ? ('repacked' as const) : ('in place' as const),
  };
}

/** The weights as far as they are on this disk in full; undefined otherwise. */
async function weightsOnDisk(
  idOrFolder: string,
  { commit }: Repo,
  config: LoadedConfig,
  options: HubOptions,
) {
  try {
    const pinned = commit === undefined ? {} : { revision: commit };
    const repo = await resolveRepo(idOrFolder, { ...options, ...pinned, localFilesOnly: true });
    const { files, weights } = await listStoredWeights(repo, config);
    const sizes = files.map(async (file) => ({
      name: basename(file),
      path: file,
      bytes: (await stat(file)).size,
    }));
    return { weights, files: await Promise.all(sizes) };
  } catch (error) {
    if (error instanceof HubError) return undefined;
    throw error;
  }
}

/** Numbers of weights in all, and of those that one token reads: of the routed experts k of E, of everything else all. */
export function countParameters(weights: readonly ExpectedTensor[], work: TokenWork) {
  const count = (share: (name: string) => number) =>
    weights.reduce((sum, { name, shape }) => sum + share(name) * shape.reduce((a, b) => a * b, 1), 0);
  return { total: count(() => 1), active: Math.round(count((name) => work.use(name).share)) };
}
