import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { type ExpectedTensor, expectedWeights } from '../auto/expected-weights.ts';
import { type LoadedConfig, loadConfig } from '../auto/load-config.ts';
import { HubError } from '../errors.ts';
import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import { openCheckpoint } from '../safetensors/checkpoint.ts';
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
  const loaded = await loadConfig(repo);
  const config = loaded.architecture.text(loaded.parsed);
  const stored = await storedWeights(idOrFolder, repo, options);
  const weights = stored?.weights ?? expectedWeights(loaded.architecture, loaded.parsed);
  return {
    model: repo.id,
    ...(repo.commit !== undefined && { commit: repo.commit }),
    architecture: loaded.architecture.modelType,
    parameters: countParameters(weights, config.num_experts_per_tok, config.num_experts),
    layers: config.num_hidden_layers,
    moeLayers: config.moe_layers.filter(Boolean).length,
    experts: config.num_experts,
    expertsPerToken: config.num_experts_per_tok,
    hiddenSize: config.hidden_size,
    vocabSize: config.vocab_size,
    contextLength: config.max_position_embeddings,
    dtype: stored ? commonDtype(stored.weights) : declaredDtype(loaded),
    files: stored?.files ?? [],
  };
}

/** The weights as far as they are on this disk in full; undefined otherwise. */
async function storedWeights(idOrFolder: string, { commit }: Repo, options: HubOptions) {
  try {
    const pinned = commit === undefined ? {} : { revision: commit };
    const repo = await resolveRepo(idOrFolder, { ...options, ...pinned, localFilesOnly: true });
    const { files, tensors } = await openCheckpoint(repo);
    const weights = [...tensors.values()].filter(({ name }) => !name.endsWith('rotary_emb.inv_freq'));
    const sizes = files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size }));
    return { weights, files: await Promise.all(sizes) };
  } catch (error) {
    if (error instanceof HubError) return undefined;
    throw error;
  }
}

function declaredDtype({ architecture, parsed }: LoadedConfig): string {
  return architecture.text(parsed).dtype ?? 'unknown';
}

/** A routed expert's tensor, one by one or fused; the shared expert of qwen2_moe is called `shared_expert`. */
const EXPERT_TENSOR = /\.mlp\.experts\./;

/** Of the routed experts, a token reads k of E; of everything else, all. */
export function countParameters(weights: readonly ExpectedTensor[], topK: number, numExperts: number) {
  const count = (tensors: readonly ExpectedTensor[]) =>
    tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const total = count(weights);
  const routed = count(weights.filter(({ name }) => EXPERT_TENSOR.test(name)));
  const idle = numExperts > 0 ? (routed / numExperts) * (numExperts - topK) : 0;
  return { total, active: Math.round(total - idle) };
}

function commonDtype(weights: readonly TensorInfo[]): string {
  const bytes = new Map<string, number>();
  for (const { dtype, byteLength } of weights) bytes.set(dtype, (bytes.get(dtype) ?? 0) + byteLength);
  const [first] = [...bytes].sort((a, b) => b[1] - a[1]);
  const stored = first?.[0] ?? 'none';
  return { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[stored] ?? stored;
}
