import { basename } from 'node:path';
import { ConfigError, show } from '../errors.ts';
import { generationFields } from '../generation/generation-config.ts';
import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import { readJsonFile } from '../json.ts';
import type { Architecture } from '../models/architecture.ts';
import { findArchitecture } from './registry.ts';

/** A config.json that Switchyard understands. */
export interface LoadedConfig {
  /** As on disk, with the caller's overrides. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly architecture: Architecture;
  /** Validated, with defaults filled in; its type is the architecture's. */
  readonly parsed: unknown;
}

/** Overrides of config.json: fields laid over it, or a folder or repo whose config.json replaces it. */
export type ConfigOverride = string | Readonly<Record<string, unknown>>;

/** @throws ConfigError naming file, field and value */
export async function loadConfig(
  repo: Repo,
  override?: ConfigOverride,
  options: HubOptions = {},
): Promise<LoadedConfig> {
  const source = typeof override === 'string' ? await resolveRepo(override, options) : repo;
  const path = await source.require('config.json');
  const stored = asRecord(await readJsonFile(path), path);
  const json = typeof override === 'object' && override !== null ? { ...stored, ...override } : stored;
  const architecture = findArchitecture(json, path);
  return { json, architecture, parsed: architecture.parse(json, path) };
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
  throw new ConfigError(`${path}: ${basename(path)} is ${show(json)}; expected an object of settings`);
}
