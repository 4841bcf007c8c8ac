import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { type ExpectedTensor, expectedWeights } from '../auto/expected-weights.ts';
import { loadConfig } from '../auto/load-config.ts';
import { openModelCheckpoint } from '../auto/model-checkpoint.ts';
import { refuseQuantized } from '../auto/quantization.ts';
import { dtypeOf } from '../dtype.ts';
import { HubError } from '../errors.ts';
import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import type { Model, TokenWork } from '../models/architecture.ts';
import type { TensorInfo } from '../safetensors/types.ts';

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
  /** Element type that most weights are stored in; without weights, what config.json says. */
  dtype: string;
  /** Weights on this disk; empty where they are not, and the numbers follow from config.json. */
  files: { name: string; bytes: number }[];
}

/**
 * Reads config.json and the headers of the weights. No weight is read or fetched and no engine started: where the weights
 * are not on this disk, the architecture says which there must be.
 */
export async function modelInfo(idOrFolder: string, options: HubOptions): Promise<ModelInfo> {
  const repo = await resolveRepo(idOrFolder, options);
  const { model, json } = await loadConfig(repo);
  await refuseQuantized(repo, json);
  const stored = await storedWeights(idOrFolder, repo, model, options);
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
    dtype: stored ? commonDtype(stored.weights) : (model.declared.dtype ?? 'unknown'),
    files: stored?.files ?? [],
  };
}

/** The weights as far as they are on this disk in full; undefined otherwise. */
async function storedWeights(idOrFolder: string, { commit }: Repo, model: Model, options: HubOptions) {
  try {
    const pinned = commit === undefined ? {} : { revision: commit };
    const repo = await resolveRepo(idOrFolder, { ...options, ...pinned, localFilesOnly: true });
    const { files, tensors } = await openModelCheckpoint(repo, model);
    const weights = [...tensors.values()].filter(({ name }) => model.work.use(name).part !== 'computed');
    const sizes = files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size }));
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

function commonDtype(weights: readonly TensorInfo[]): string {
  const bytes = new Map<string, number>();
  for (const { dtype, byteLength } of weights) bytes.set(dtype, (bytes.get(dtype) ?? 0) + byteLength);
  const [first] = [...bytes].sort((a, b) => b[1] - a[1]);
  const stored = first?.[0] ?? 'none';
  return dtypeOf(stored) ?? stored;
}
