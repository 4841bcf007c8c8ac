import { InputError, show } from '../errors.ts';
import { applyExperts, type ExpertsModel, type ExpertsSetting } from '../experts/resolve.ts';
import type { DType } from '../graph/precision.ts';
import type { DecoderRuntime } from './decoder-runtime.ts';
import type { Prompt } from './prompt.ts';
import type { VisionRuntime } from './vision-runtime.ts';

/** A backend name for everything, or names by sub-config; `""` speaks for what the map does not name. */
export type ExpertsImplementation = string | Readonly<Record<string, string | null>>;

/** What a loaded model is made of. */
export interface ModelParts {
  readonly idOrFolder: string;
  readonly modelType: string;
  /** The config.json in force. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig: Readonly<Record<string, unknown>>;
  readonly dtype: DType;
  readonly decoder: DecoderRuntime;
  /** The vision tower of an image-text model, and the tokens its features replace. */
  readonly vision?: VisionRuntime;
  readonly visionTokens?: { readonly image: number; readonly video: number };
  readonly contextLength: number;
  readonly expertsModel: ExpertsModel;
  readonly experts: ExpertsSetting;
  /** Frees what the parts hold. */
  readonly release: () => Promise<void>;
}

/** What every loaded model has, whatever comes out of it. Counterpart of HF `PreTrainedModel`. */
export abstract class PreTrainedModel {
  /** Repo id or folder the model came from. */
  readonly nameOrPath: string;
  readonly modelType: string;
  /** The config.json in force, with the caller's overrides. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Precision of the computation. */
  readonly dtype: DType;
  /** Most positions a sequence may have: the model's own limit, or `maxCacheLength` if that is less. */
  readonly contextLength: number;
  protected readonly parts: ModelParts;
  #experts: ExpertsSetting;
  #disposed: Promise<void> | undefined;

  constructor(parts: ModelParts) {
    this.parts = parts;
    this.nameOrPath = parts.idOrFolder;
    this.modelType = parts.modelType;
    this.config = parts.config;
    this.dtype = parts.dtype;
    this.contextLength = parts.contextLength;
    this.#experts = parts.experts;
  }

  /** The backends in force: `""` for the model as a whole, and one entry a sub-config. */
  getExpertsImplementation(): Record<string, string> {
    return { ...this.#experts };
  }

  /**
   * Changes the backends, from the next step of every generation on that has not pinned its own. Weights and sessions stay.
   *
   * @param request a name for everything, or names by sub-config. `""` sets the model and every sub-config the map does not
   *   name; without it only what is named changes.
   * @throws ExpertsError for an unknown name or key, or a backend that cannot serve this model; nothing changes then
   */
  setExpertsImplementation(request: ExpertsImplementation): void {
    const setting = applyExperts(this.#experts, request, this.parts.expertsModel);
    this.parts.decoder.assertSupported(this.textBackend(setting));
    this.#experts = setting;
  }

  /** Waits for runs in progress, then frees sessions and weights. The model cannot be used afterwards. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.parts.release();
    return this.#disposed;
  }

  /** Reads the backend of the text model now, or as a call pinned it. */
  protected backendReader(pinned: unknown): () => string {
    if (pinned === undefined || pinned === null) return () => this.textBackend(this.#experts);
    const name = this.textBackend(applyExperts(this.#experts, pinned, this.parts.expertsModel));
    this.parts.decoder.assertSupported(name);
    return () => name;
  }

  protected textBackend(setting: ExpertsSetting): string {
    return (setting.text_config ?? setting['']) as string;
  }

  /** Prompts without their left padding, every id checked. */
  protected prompts(inputIds: unknown, attentionMask: unknown): Prompt[] {
    const rows = checkRows(inputIds, 'inputIds');
    const mask =
      attentionMask === undefined || attentionMask === null ? undefined : checkMask(attentionMask, rows);
    const vocab = this.parts.decoder.config.vocab_size;
    return rows.map((ids, row) => {
      const first = mask ? (mask[row] as number[]).indexOf(1) : 0;
      const prompt = { ids: ids.slice(first) };
      for (const [i, id] of prompt.ids.entries()) {
        if (Number.isInteger(id) && id >= 0 && id < vocab) continue;
        throw new InputError(
          `inputIds[${row}][${first + i}] is ${show(id)}; a token id is a whole number from 0 to ${vocab - 1}`,
        );
      }
      if (prompt.ids.length > this.contextLength) {
        throw new InputError(
          `inputIds[${row}] has ${prompt.ids.length} tokens, more than the context of ${this.contextLength}; shorten the prompt`,
        );
      }
      return prompt;
    });
  }
}

function checkRows(value: unknown, name: string): number[][] {
  if (!Array.isArray(value) || value.length === 0 || !value.every((row) => Array.isArray(row)))
    throw new InputError(`${name} is ${show(value)}; expected rows of token ids, such as [[1, 2, 3]]`);
  const rows = value as number[][];
  const length = rows[0]?.length ?? 0;
  for (const [i, row] of rows.entries()) {
    if (row.length === 0) throw new InputError(`${name}[${i}] is empty; a prompt needs at least one token`);
    if (row.length !== length)
      throw new InputError(
        `${name}[${i}] has ${row.length} tokens, ${name}[0] has ${length}; pad shorter rows on the left and pass attentionMask`,
      );
  }
  return rows;
}

/** Masks are 0…01…1: padding on the left, at least one token. */
function checkMask(value: unknown, rows: readonly number[][]): number[][] {
  const mask = checkRows(value, 'attentionMask');
  if (mask.length !== rows.length || mask[0]?.length !== rows[0]?.length)
    throw new InputError(
      `attentionMask is ${mask.length} × ${mask[0]?.length}, inputIds ${rows.length} × ${rows[0]?.length}; they must agree`,
    );
  for (const [i, row] of mask.entries()) {
    const first = row.indexOf(1);
    const fits = first >= 0 && row.every((bit, j) => bit === (j < first ? 0 : 1));
    if (!fits)
      throw new InputError(
        `attentionMask[${i}] is ${show(row)}; expected zeros for padding on the left, then ones`,
      );
  }
  return mask;
}
