import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { loadConfig } from '../auto/load-config.ts';
import { resolveRepo } from '../hub/resolve-repo.ts';
import type { HubOptions } from '../hub/types.ts';
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
  /** Element type that most weights are stored in. */
  dtype: string;
  files: { name: string; bytes: number }[];
}

/** Reads config.json and the headers of the weights; no weight is read and no engine started. */
export async function modelInfo(idOrFolder: string, options: HubOptions): Promise<ModelInfo> {
  const repo = await resolveRepo(idOrFolder, options);
  const { architecture, parsed } = await loadConfig(repo);
  const config = architecture.text(parsed);
  const { files, tensors } = await openCheckpoint(repo);
  const weights = [...tensors.values()].filter(({ name }) => !name.endsWith('rotary_emb.inv_freq'));
  return {
    model: repo.id,
    ...(repo.commit !== undefined && { commit: repo.commit }),
    architecture: architecture.modelType,
    parameters: countParameters(weights, config.num_experts_per_tok, config.num_experts),
    layers: config.num_hidden_layers,
    moeLayers: config.moe_layers.filter(Boolean).length,
    experts: config.num_experts,
    expertsPerToken: config.num_experts_per_tok,
    hiddenSize: config.hidden_size,
    vocabSize: config.vocab_size,
    contextLength: config.max_position_embeddings,
    dtype: commonDtype(weights),
    files: await Promise.all(
      files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size })),
    ),
  };
}

/** A routed expert's tensor, one by one or fused; the shared expert of qwen2_moe is called `shared_expert`. */
const EXPERT_TENSOR = /\.mlp\.experts\./;

/** Of the routed experts, a token reads k of E; of everything else, all. */
export function countParameters(weights: readonly TensorInfo[], topK: number, numExperts: number) {
  const count = (tensors: readonly TensorInfo[]) =>
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
