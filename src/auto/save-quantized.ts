import { readdir, readFile } from 'node:fs/promises';
import { abortable, expected, InputError, warn } from '../errors.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { checkOptions } from '../options.ts';
import { copiedTensor } from '../quantize/copied-tensor.ts';
import { planQuantization, type QuantizationPlan } from '../quantize/plan.ts';
import { checkPlan, withSources } from '../quantize/quantize-checkpoint.ts';
import { roundedMatrix } from '../quantize/rounded-matrix.ts';
import {
  describeScheme,
  parseScheme,
  type Quantization,
  type QuantizationScheme,
} from '../quantize/scheme.ts';
import { compressedSettings } from '../quantize/settings.ts';
import { writeCheckpoint } from '../quantize/write-checkpoint.ts';
import { checkThreads, defaultThreads } from '../runtime/threads.ts';
import { assertComplete } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { matchWeights } from './check-model.ts';
import { type LoadedConfig, loadConfig } from './load-config.ts';
import { openModelCheckpoint } from './model-checkpoint.ts';
import { OPTIONAL_MODEL_FILES } from './model-files.ts';
import { HUB_OPTIONS, type ModelSource, openRepo } from './open-repo.ts';
import { openQuantization } from './quantization.ts';
import { isRead, roundWeights } from './round-weights.ts';

/** Options of {@link saveQuantized}. */
export interface SaveQuantizedOptions extends HubOptions {
  /** What the weights are rounded to. `int8` and `int4` leave the head as it is here, as not every tool reads one that is rounded. */
  quantization: Quantization;
  threads?: number;
  /** Most bytes of a shard; default 5 GB. */
  shardBytes?: number;
}

const OPTIONS: readonly string[] = [
  ...HUB_OPTIONS,
  ...(['quantization', 'threads', 'shardBytes'] satisfies (keyof SaveQuantizedOptions)[]),
];

/** What {@link saveQuantized} has written. */
export interface SavedCheckpoint {
  readonly folder: string;
  /** Of the weights. */
  readonly bytes: number;
  /** In words. */
  readonly scheme: string;
}

/**
 * Writes a model with rounded weights to a folder, as compressed-tensors: `pack-quantized` for 4 bits, `int-quantized` for 8, with its
 * config, tokenizer and a model card. vLLM, transformers and Switchyard load it.
 *
 * @param folder that does not exist, or is empty
 * @throws as `fromPretrained`; InputError where the folder holds something, or the model is quantized already in another way than FP8
 */
export async function saveQuantized(
  source: ModelSource,
  folder: string,
  options: SaveQuantizedOptions,
): Promise<SavedCheckpoint> {
  const { quantization, threads, shardBytes } = checkOptions(options, OPTIONS, 'saveQuantized');
  const scheme = parseScheme(withoutHead(quantization));
  if (threads !== undefined) checkThreads(threads);
  if (shardBytes !== undefined && !(Number.isInteger(shardBytes) && shardBytes > 0))
    throw new InputError(expected('shardBytes', shardBytes, 'a whole number above 0'));
  return abortable(options.signal, 'saveQuantized', () => save(source, folder, scheme, options));
}

async function save(
  source: ModelSource,
  folder: string,
  scheme: QuantizationScheme,
  { quantization: _, threads = defaultThreads(), shardBytes, ...hub }: SaveQuantizedOptions,
): Promise<SavedCheckpoint> {
  await assertEmpty(folder);
  const repo = await openRepo(source, hub);
  const config = await loadConfig(repo);
  const { model, json } = config;
  const stored = await openModelCheckpoint(repo, model, await openQuantization(repo, json));
  assertComplete(matchWeights(model, stored, 'logits').report, stored.files);
  const checkpoint = await roundWeights(model, stored, undefined, repo.id, { ...hub, threads });
  const plan = planQuantization(model, checkpoint, scheme);
  checkPlan(plan, scheme, { id: repo.id, warn: (message) => warn(message, hub.onWarning) });
  assertPlainOtherwise(checkpoint, plan, repo.id);
  const others = await otherFiles(repo, config, checkpoint, plan, scheme);
  const bytes = await withSources(checkpoint, plan, (store) => {
    const rounded = plan.matrices.map((matrix) => roundedMatrix(matrix, store));
    const copied = [...checkpoint.tensors.values()]
      .filter(({ name }) => !plan.replaced.has(name) && isRead(model)(name))
      .map(copiedTensor);
    const progress = meter(folder, hub);
    const write = { threads, signal: hub.signal, shardBytes, onBytes: progress.add, onTotal: progress.begin };
    return writeCheckpoint(folder, { units: [...copied, ...rounded], others }, write);
  });
  return { folder, bytes, scheme: describeScheme(scheme) };
}

function withoutHead(quantization: Quantization): Quantization {
  return typeof quantization === 'string' ? { experts: quantization, attention: quantization } : quantization;
}

async function assertEmpty(folder: string): Promise<void> {
  if (folder === '') throw new InputError(expected('folder', folder, 'the path of a folder'));
  const found = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new InputError(expected('folder', folder, 'a folder that does not exist yet, or is empty'));
  });
  if (found.length > 0)
    throw new InputError(
      `${folder} is not empty: it holds ${found[0]}. Name a folder that does not exist yet`,
    );
}

function assertPlainOtherwise(
  { quantized }: ModelCheckpoint,
  { replaced }: QuantizationPlan,
  id: string,
): void {
  const left = [...(quantized?.keys() ?? [])].find((name) => !replaced.has(name));
  if (left !== undefined)
    throw new InputError(
      `${id} is quantized already: ${left} would stay as it is, and compressed-tensors has no place for it. Take the repo with bfloat16 weights`,
    );
}

function meter(folder: string, { onProgress }: HubOptions) {
  let done = 0;
  let total = 0;
  const report = () =>
    onProgress?.({
      ...{ stage: 'quantize', file: folder, loadedBytes: done, fileBytes: total },
      ...{ totalLoadedBytes: done, totalBytes: total },
    });
  return {
    begin(bytes: number) {
      total = bytes;
      report();
    },
    add(bytes: number) {
      done = Math.min(total, done + bytes);
      report();
    },
  };
}

/** config.json with its quantization, the files of tokenizer and processor, and a card. */
async function otherFiles(
  repo: Repo,
  { json, model }: LoadedConfig,
  checkpoint: ModelCheckpoint,
  plan: QuantizationPlan,
  scheme: QuantizationScheme,
): Promise<Map<string, string | Buffer>> {
  const files = new Map<string, string | Buffer>();
  for (const name of OPTIONAL_MODEL_FILES) {
    const path = await repo.file(name);
    if (path !== undefined) files.set(name, await readFile(path));
  }
  const config = configOf(json, compressedSettings(plan, ignoredModules(checkpoint, plan, model)), plan);
  files.set('config.json', `${JSON.stringify(config, null, 2)}\n`);
  files.set('README.md', card(repo, describeScheme(scheme)));
  return files;
}

/** Linear modules that stay, as others look for weights of every linear module that is not named here. */
function ignoredModules(checkpoint: ModelCheckpoint, { replaced }: QuantizationPlan, model: Model): string[] {
  return [...checkpoint.tensors.values()]
    .filter(({ name, shape }) => shape.length === 2 && name.endsWith('.weight') && !replaced.has(name))
    .filter(({ name }) => isRead(model)(name) && model.work.use(name).part !== 'embedding')
    .map(({ name }) => name.slice(0, -'.weight'.length));
}

type Json = Readonly<Record<string, unknown>>;

/** The old settings of a quantizer give way; a head that was rounded apart from the embedding is no longer tied to it. */
function configOf(json: Json, settings: Json, { matrices }: QuantizationPlan): Json {
  const { quantization_config, quantization, compression_config, ...rest } = json;
  const isSplit = matrices.some(({ kind, name, source }) => kind === 'head' && name !== source.name);
  const text = rest.text_config as Json | undefined;
  return {
    ...rest,
    ...(isSplit && { tie_word_embeddings: false }),
    ...(isSplit && text && { text_config: { ...text, tie_word_embeddings: false } }),
    quantization_config: settings,
  };
}

function card({ id, commit }: Repo, scheme: string): string {
  const isRepo = commit !== undefined;
  const base = isRepo ? `base_model: ${id}\nbase_model_relation: quantized\n` : '';
  const origin = isRepo ? `[${id}](https://huggingface.co/${id}) at commit ${commit}` : id;
  return `---\n${base}library_name: transformers\ntags:\n- compressed-tensors\n---\n\n# Quantized weights\n
${origin}, with weights rounded to ${scheme}; everything else is as it was. Without calibration data: of several scales for
each group of weights, the one with the least weighted squared error was taken (moe-switchyard, \`switchyard quantize\`).
Stored as compressed-tensors (\`pack-quantized\` for 4 bits, \`int-quantized\` for 8), which vLLM, transformers and
moe-switchyard read.\n`;
}
