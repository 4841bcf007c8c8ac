import { basename } from 'node:path';
import type { DType } from '../dtype.ts';
import { ConfigError, expected, InputError, show, suggestion } from '../errors.ts';
import { generationFields } from '../generation/generation-config.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import { readJsonFile } from '../json.ts';
import type { Model } from '../models/architecture.ts';
import { snakeCase } from '../options.ts';
import { isResolved, openRepo } from './open-repo.ts';
import { findArchitecture } from './registry.ts';

/** What config.json says of a model, defaults of its family filled in. */
export interface PretrainedConfig {
  /** HF `model_type`. */
  readonly modelType: string;
  /** As on disk, with the caller's overrides. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Sub-configs that an `expertsImplementation` map may name; none for a text model. */
  readonly subConfigs: readonly string[];
  /** Whether the model reads pictures, so that `AutoModelForImageTextToText` loads it. */
  readonly hasVision: boolean;
  /** Precision it declares, if any that can be computed in. */
  readonly dtype: DType | undefined;
  readonly vocabSize: number;
  /** Width of the hidden states. */
  readonly hiddenSize: number;
  /** Decoder layers. */
  readonly layers: number;
  /** Most positions a sequence may have. */
  readonly contextLength: number;
  /** Routed experts: layers that route, experts in each, and experts a token is routed to; absent for a model without. */
  readonly experts?: { readonly layers: number; readonly count: number; readonly perToken: number };
}

/** A config.json that Switchyard understands, and the model it describes. */
export interface LoadedConfig {
  /** As on disk, with the caller's overrides. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly model: Model;
}

/**
 * Overrides of config.json: fields laid over it, or a folder or repo whose config.json replaces it. Of a repo id the branch `main`
 * counts, whatever revision of the model is loaded; for another one, pass the repo resolved.
 */
export type ConfigOverride = string | Repo | Readonly<Record<string, unknown>>;

/** @throws ConfigError naming file, field and value */
export async function loadConfig(
  repo: Repo,
  override?: ConfigOverride,
  options: HubOptions = {},
): Promise<LoadedConfig> {
  const replaced = typeof override === 'string' || isResolved(override);
  const source = replaced ? await openOverride(override, options) : repo;
  const path = await source.require('config.json');
  const stored = asRecord(await readJsonFile(path), path);
  if (!replaced) checkFields(override, stored);
  const json = replaced ? stored : { ...stored, ...override };
  return { json, model: findArchitecture(json, path).parse(json, path) };
}

/** Overrides are fields of config.json, under the names they have there. */
function checkFields(override: unknown, stored: Readonly<Record<string, unknown>>): void {
  if (override === undefined || override === null) return;
  if (typeof override !== 'object' || Array.isArray(override))
    throw new InputError(
      expected('config', override, 'fields of config.json, or a repo or folder that has one'),
    );
  const ours = Object.keys(override).find((name) => !Object.hasOwn(stored, name) && snakeCase(name) !== name);
  if (ours !== undefined)
    throw new InputError(`config: ${show(ours)} is no field of config.json. ${suggestion(snakeCase(ours))}`);
}

/** Revision and subfolder are of the model's repo, and mean nothing in another. */
function openOverride(override: string | Repo, options: HubOptions): Promise<Repo> {
  const { signal, onWarning, onProgress, ...access } = options;
  const callbacks = {
    ...(signal && { signal }),
    ...(onWarning && { onWarning }),
    ...(onProgress && { onProgress }),
  };
  if (isResolved(override)) return openRepo(override, callbacks);
  const { token, cacheDir, localFilesOnly } = access;
  return openRepo(override, {
    ...callbacks,
    ...(token !== undefined && { token }),
    ...(cacheDir !== undefined && { cacheDir }),
    ...(localFilesOnly !== undefined && { localFilesOnly }),
  });
}

/** What is public of a config. */
export function publicConfig({ json, model }: LoadedConfig): PretrainedConfig {
  const { modelType, subConfigs, declared, vocabSize, hiddenSize, contextLength, routed } = model;
  return {
    ...{ modelType, json, subConfigs, hasVision: model.media !== undefined, dtype: declared.dtype },
    ...{ vocabSize, hiddenSize, layers: model.caches.length, contextLength },
    ...(routed && {
      experts: { layers: routed.layers.length, count: routed.count, perToken: routed.perToken },
    }),
  };
}

/** How a model generates unless the caller says otherwise. */
export interface LoadedGenerationConfig {
  /** In snake_case, as stored. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Path of the file it comes from. */
  readonly file: string;
}

/** generation_config.json as stored, or what config.json says of generation where the repo has none. */
export async function loadGenerationConfig(
  repo: Repo,
  config: Readonly<Record<string, unknown>>,
): Promise<LoadedGenerationConfig> {
  const path = await repo.file('generation_config.json');
  if (path === undefined) return { json: generationFields(config), file: 'config.json' };
  return { json: asRecord(await readJsonFile(path), path), file: path };
}

function asRecord(json: unknown, path: string): Record<string, unknown> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>;
  throw new ConfigError(expected(`${path}: ${basename(path)}`, json, 'an object of settings'));
}
