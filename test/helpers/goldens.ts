import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Golden checkpoints of text models. */
export const TEXT_MODELS = [
  'qwen2_moe_a',
  'qwen2_moe_b',
  'qwen2_moe_window',
  'qwen3_moe_c',
  'qwen3_moe_c_resaved',
  'qwen3_moe_d',
];

/** Golden checkpoints of hybrid models, as text models. */
export const HYBRID_MODELS = [
  'qwen3_next_g',
  'qwen3_next_h',
  'qwen3_5_moe_text_i',
  'qwen3_5_moe_j',
  'qwen3_5_moe_j_resaved',
  'qwen4_exp_k',
];

/** Folder of the bundled demo. */
export const DEMO_FOLDER = join(import.meta.dirname, '../../configs/demo-model');

/** Folder of a golden checkpoint. */
export function goldenModel(name: string): string {
  return join(import.meta.dirname, '../fixtures/goldens/models', name);
}

export function readJson<T = GoldenModel>(...path: string[]): T {
  return JSON.parse(readFileSync(join(...path), 'utf8')) as T;
}

export interface GoldenPrompt {
  name: string;
  input_ids: number[];
  logits_first8: number[][];
  argmax: number[];
  max: number[];
  logsumexp: number[];
  l2: number[];
  greedy: { tokens: number[] };
}

export interface GoldenModel {
  same_as?: string;
  /** Results of plain tokens, of a model that sees. */
  text?: GoldenModel;
  moe_layers: number[];
  prompts: GoldenPrompt[];
  greedy_repetition_penalty?: { input_ids: number[]; repetition_penalty: number; tokens: number[] };
  batch?: { input_ids: number[][]; attention_mask: number[][]; pad_token_id: number; tokens: number[][] };
  stop?: {
    input_ids: number[][];
    attention_mask: number[][];
    pad_token_id: number;
    eos_token_id: number[];
    tokens: number[][];
  };
  perplexity?: { input_ids: number[]; nll_mean: number; perplexity: number };
  long?: {
    input_ids: number[];
    argmax: number[];
    argmax_close: number[];
    greedy: { tokens: number[] };
  };
  bf16?: {
    prompts: { name: string; positions_with_changed_routing: number[]; mean_abs_diff_all: number }[];
  };
}

type Numbers = Float32Array | Int32Array;

/** Tensors of an `expected.safetensors`, read whole. */
export function readTensors(file: string): Map<string, { shape: number[]; data: Numbers }> {
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, { shape: number[]; data: Numbers }>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [from, to] = entry.data_offsets;
    const body = new Uint8Array(bytes.subarray(8 + headerBytes + from, 8 + headerBytes + to)).buffer;
    if (entry.dtype === 'F32') tensors.set(name, { shape: entry.shape, data: new Float32Array(body) });
    else if (entry.dtype === 'U8')
      tensors.set(name, { shape: entry.shape, data: Int32Array.from(new Uint8Array(body)) });
    else if (entry.dtype === 'I32') tensors.set(name, { shape: entry.shape, data: new Int32Array(body) });
    else throw new Error(`${file}: ${name} has dtype ${entry.dtype}`);
  }
  return tensors;
}

/** What is known of a golden checkpoint as a text model. */
export interface TextGolden {
  readonly golden: GoldenModel;
  /** By prompt and name, such as `p0.hidden`. */
  tensor(key: string): { shape: number[]; data: Numbers } | undefined;
}

export function textGolden(name: string): TextGolden {
  const own: GoldenModel = readJson(goldenModel(name), 'expected.json');
  const source = goldenModel(own.same_as ?? name);
  const whole: GoldenModel = own.same_as ? readJson(source, 'expected.json') : own;
  const file = join(source, 'expected.safetensors');
  const tensors = existsSync(file) ? readTensors(file) : new Map<string, never>();
  const prefix = whole.text ? 'text.' : '';
  return { golden: whole.text ?? whole, tensor: (key) => tensors.get(`${prefix}${key}`) };
}

/** Largest absolute difference; NaN anywhere makes it NaN. */
export function maxDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length)
    throw new Error(`lengths ${actual.length} and ${expected.length} differ`);
  let max = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs((actual[i] as number) - (expected[i] as number));
    if (Number.isNaN(difference)) return Number.NaN;
    max = Math.max(max, difference);
  }
  return max;
}

export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

/** log Σ exp, in double precision. */
export function logSumExp(values: ArrayLike<number>): number {
  const max = values[argmax(values)] as number;
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp((values[i] as number) - max);
  return max + Math.log(sum);
}
