import { readFileSync } from 'node:fs';
import type { VisionPositions } from '../../../src/models/qwen3_vl_moe/vision-positions.ts';
import { FOLDER, goldenTensor } from './goldens.ts';

const index = JSON.parse(readFileSync(`${FOLDER}model.safetensors.index.json`, 'utf8')) as {
  weight_map: Record<string, string>;
};
const config = JSON.parse(readFileSync(`${FOLDER}config.json`, 'utf8')).vision_config as {
  hidden_size: number;
  num_heads: number;
  depth: number;
  spatial_merge_size: number;
  deepstack_visual_indexes: number[];
};

type Rows = Float64Array[];

function weight(name: string): Float32Array {
  const full = `model.visual.${name}`;
  return goldenTensor(full, index.weight_map[full] as string) as Float32Array;
}

/** x · Wᵀ + b, with W stored as [out, in]. */
function linear(x: Rows, name: string): Rows {
  const w = weight(`${name}.weight`);
  const b = weight(`${name}.bias`);
  return x.map((row) =>
    Float64Array.from(b, (bias, o) =>
      row.reduce((sum, v, i) => sum + v * (w[o * row.length + i] as number), bias),
    ),
  );
}

function layerNorm(x: Rows, name: string): Rows {
  const w = weight(`${name}.weight`);
  const b = weight(`${name}.bias`);
  return x.map((row) => {
    const mean = row.reduce((sum, v) => sum + v, 0) / row.length;
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / row.length;
    const scale = 1 / Math.sqrt(variance + 1e-6);
    return row.map((v, i) => (v - mean) * scale * (w[i] as number) + (b[i] as number));
  });
}

const geluTanh = (v: number) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
const gelu = (v: number) => 0.5 * v * (1 + erf(v / Math.SQRT2));

/** Series of the error function, exact to double precision for the values met here. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200 && Math.abs(term) > 1e-17; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const add = (a: Rows, b: Rows) =>
  a.map((row, i) => row.map((v, j) => v + ((b[i] as Float64Array)[j] as number)));
const mapAll = (x: Rows, f: (v: number) => number) => x.map((row) => row.map(f));

/** Four consecutive patches side by side make one row. */
function shuffle(x: Rows): Rows {
  const unit = config.spatial_merge_size ** 2;
  return Array.from({ length: x.length / unit }, (_, i) =>
    Float64Array.from(x.slice(i * unit, (i + 1) * unit).flatMap((row) => [...row])),
  );
}

function embed(pixelRows: Rows, positions: VisionPositions): Rows {
  const table = weight('pos_embed.weight');
  const width = config.hidden_size;
  return linear(pixelRows, 'patch_embed.proj').map((row, p) =>
    row.map((v, i) => {
      let sum = v;
      for (let k = p * 4; k < p * 4 + 4; k++) {
        sum +=
          (positions.weights[k] as number) * (table[(positions.indices[k] as number) * width + i] as number);
      }
      return sum;
    }),
  );
}

/** Rotates the two halves of one head of one patch. */
function rotate(head: Float64Array, patch: number, positions: VisionPositions): Float64Array {
  const half = head.length / 2;
  return head.map((v, i) => {
    const angle = patch * half + (i % half);
    const partner = i < half ? -(head[i + half] as number) : (head[i - half] as number);
    return v * (positions.cos[angle] as number) + partner * (positions.sin[angle] as number);
  });
}

function attention(x: Rows, block: string, positions: VisionPositions): Rows {
  const width = config.hidden_size;
  const headDim = width / config.num_heads;
  const qkv = linear(x, `${block}.attn.qkv`);
  const out = x.map(() => new Float64Array(width));
  for (let h = 0; h < config.num_heads; h++) {
    const part = (which: number) =>
      qkv.map((row) => row.slice(which * width + h * headDim, which * width + (h + 1) * headDim));
    const q = part(0).map((head, p) => rotate(head, p, positions));
    const k = part(1).map((head, p) => rotate(head, p, positions));
    const v = part(2);
    for (let s = 0; s + 1 < positions.cuSeqlens.length; s++) {
      const [from, to] = [positions.cuSeqlens[s] as number, positions.cuSeqlens[s + 1] as number];
      for (let i = from; i < to; i++) {
        const scores = k.slice(from, to).map((key) => dot(q[i] as Float64Array, key) / Math.sqrt(headDim));
        const exps = scores.map((score) => Math.exp(score - Math.max(...scores)));
        const total = exps.reduce((sum, e) => sum + e, 0);
        for (let d = 0; d < headDim; d++) {
          const mixed = exps.reduce((sum, e, j) => sum + e * ((v[from + j] as Float64Array)[d] as number), 0);
          (out[i] as Float64Array)[h * headDim + d] = mixed / total;
        }
      }
    }
  }
  return linear(out, `${block}.attn.proj`);
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, v, i) => sum + v * (b[i] as number), 0);
}

function merge(x: Rows, name: string, normAfterShuffle: boolean): Rows {
  const rows = normAfterShuffle
    ? layerNorm(shuffle(x), `${name}.norm`)
    : shuffle(layerNorm(x, `${name}.norm`));
  return linear(mapAll(linear(rows, `${name}.linear_fc1`), gelu), `${name}.linear_fc2`);
}

/** The vision tower of the golden model in plain loops and double precision, for checking positions end to end. */
export function visionTower(pixels: Float32Array, positions: VisionPositions) {
  const length = pixels.length / positions.patches;
  const pixelRows = Array.from({ length: positions.patches }, (_, i) =>
    Float64Array.from(pixels.subarray(i * length, (i + 1) * length)),
  );
  let x = embed(pixelRows, positions);
  const blocks = [x];
  const deepstack: Rows[] = [];
  for (let i = 0; i < config.depth; i++) {
    const block = `blocks.${i}`;
    x = add(x, attention(layerNorm(x, `${block}.norm1`), block, positions));
    const hidden = linear(layerNorm(x, `${block}.norm2`), `${block}.mlp.linear_fc1`);
    x = add(x, linear(mapAll(hidden, geluTanh), `${block}.mlp.linear_fc2`));
    blocks.push(x);
    const level = config.deepstack_visual_indexes.indexOf(i);
    if (level >= 0) deepstack.push(merge(x, `deepstack_merger_list.${level}`, true));
  }
  return { blocks, deepstack, embeds: merge(x, 'merger', false) };
}
