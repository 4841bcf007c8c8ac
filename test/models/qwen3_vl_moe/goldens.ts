import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HubError } from '../../../src/errors.ts';
import type { Repo } from '../../../src/hub/types.ts';
import type { RgbImage } from '../../../src/media/types.ts';

/** The image-text golden model: folder and expected values. */
export const FOLDER = fileURLToPath(
  new URL('../../fixtures/goldens/models/qwen3_vl_moe_e/', import.meta.url),
);

export interface GoldenImage {
  name: string;
  file: string;
  width: number;
  height: number;
  resized: boolean;
  image_grid_thw: [number, number, number];
  pixel_values_shape: number[];
  pixel_values_first8: number[];
  pixel_values_mean: number;
  rgb_sum: number[];
  rgb_first_pixels: number[][];
}

export interface GoldenPrompt {
  name: string;
  images: string[];
  messages: { role: string; content: string | Record<string, unknown>[] }[];
  text: string;
  input_ids: number[];
  mm_token_type_ids: number[];
  image_grid_thw: [number, number, number][];
  position_ids: number[][];
  rope_delta: number;
}

export interface GoldenBatch {
  rows: string[];
  input_ids: number[][];
  attention_mask: number[][];
  mm_token_type_ids: number[][];
  image_grid_thw: [number, number, number][];
  position_ids: number[][][];
  rope_deltas: number[];
}

export interface SmartResizeCase {
  height: number;
  width: number;
  factor: number;
  min_pixels: number;
  max_pixels: number;
  result?: [number, number];
  error?: string;
}

interface Golden {
  images: { items: GoldenImage[]; smart_resize: SmartResizeCase[] };
  prompts: GoldenPrompt[];
  batches: GoldenBatch[];
}

export const golden = JSON.parse(readFileSync(`${FOLDER}expected.json`, 'utf8')) as Golden;

/** One float32 tensor of `expected.safetensors` (or of another file of the folder), or undefined. */
export function goldenTensor(name: string, file = 'expected.safetensors'): Float32Array | undefined {
  const bytes = readFileSync(`${FOLDER}${file}`);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength));
  const entry = header[name];
  if (!entry) return undefined;
  const [from, to] = entry.data_offsets as [number, number];
  const copy = new Uint8Array(bytes.subarray(8 + headerLength + from, 8 + headerLength + to));
  if (entry.dtype === 'F32') return new Float32Array(copy.buffer);
  if (entry.dtype !== 'BF16') throw new Error(`${name} is ${entry.dtype}`);
  const words = new Uint16Array(copy.buffer);
  return new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer);
}

/** A folder as a repo; `overrides` replace files by text, or take them away (null). */
export function folderRepo(folder: string = FOLDER, overrides: Record<string, string | null> = {}): Repo {
  const scratch = mkdtempSync(join(tmpdir(), 'processor-'));
  for (const [name, text] of Object.entries(overrides)) {
    if (text !== null) writeFileSync(join(scratch, name), text);
  }
  const file = async (name: string) => {
    if (name in overrides) return overrides[name] === null ? undefined : join(scratch, name);
    const path = join(folder, name);
    return existsSync(path) ? path : undefined;
  };
  const require = async (name: string) => {
    const path = await file(name);
    if (path === undefined) throw new HubError(`${folder} has no ${name}`);
    return path;
  };
  const requireAll = (names: readonly string[]) => Promise.all(names.map(require));
  return { id: folder, commit: undefined, file, require, requireAll };
}

/** Noise that any language can repeat: the high byte of a multiplicative hash of the index. */
export function noise(height: number, width: number, offset = 0): RgbImage {
  const data = new Uint8Array(height * width * 3);
  for (let i = 0; i < data.length; i++) data[i] = Math.imul(i + offset, 2654435761) >>> 24;
  return { data, width, height };
}
