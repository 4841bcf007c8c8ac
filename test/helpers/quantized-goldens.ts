import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { AutoModelForCausalLM, AutoModelForImageTextToText } from '../../src/index.ts';
import { readJson } from './goldens.ts';

/** Golden checkpoints with quantized weights, and what is expected of them. */
export const QUANTIZED_FOLDER = join(import.meta.dirname, '../fixtures/goldens/quantized');
/** One for every spelling. */
export const QUANTIZED_MODELS = readdirSync(QUANTIZED_FOLDER).filter((name) => name.startsWith('qwen'));

/** Accepted differences of logits in float32: README.md of the goldens. */
export const QUANTIZED_LOGITS = 1e-4;

export interface QuantizedGolden {
  model_type: string;
  prompts: {
    input_ids: number[];
    argmax: number[];
    logsumexp: number[];
    logits_last: number[];
    router_last: { layer: number; indices: number[]; weights: number[] }[];
    greedy: { tokens: number[] };
  }[];
  perplexity: { input_ids: number[]; perplexity: number };
}

/** A weight as independent dequantizers have it. */
export interface Dequantized {
  weight: string;
  shape: number[];
  exact: boolean;
  sha256: string;
  first4: number[];
  last4: number[];
  sum: number;
  l2: number;
}

export const readQuantizedGolden = (name: string) =>
  readJson<QuantizedGolden>(QUANTIZED_FOLDER, name, 'expected.json');

/** The class that opens it. */
export const autoOf = ({ model_type }: QuantizedGolden) =>
  model_type.includes('vl') ? AutoModelForImageTextToText : AutoModelForCausalLM;
