/** What the engine's weight store has to be told about a weight that is stored as codes. Types only; nothing here is of one publisher. */
import type { TensorInfo } from '../safetensors/types.ts';

/**
 * A weight of shape `[N, K]` (out, in), or of several such matrices `[E, N, K]`, whose element is computed in float32 as
 *
 *     (value(code) − zero) · scale (+ bias)
 *
 * The graph asks for it by `name` and `shape` like for any other. Each part is a tensor of a file, or a slice of one (such as an expert
 * of a stacked tensor), read where it lies; nothing is copied or read at open but `columnGroups`.
 *
 * Where experts are stored transposed, `shape` is `[E, K, N]` as stored; then "row" and "column" below are those of the stored
 * matrices.
 */
export interface QuantizedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly codes: QuantizedCodes;
  readonly scales: QuantizedScales;
  /** Subtracted from codes of type `uint`; default 0. A whole number from 0 to 2^bits, or one for each row and group of columns. */
  readonly zero?: number | QuantizedZeros;
  /** Added to each product; F32, F16 or BF16, of the shape and grid of the scales (MLX). */
  readonly biases?: TensorInfo;
  /**
   * I32 `[columns]`: the group of each column, where columns of a group do not lie side by side (`g_idx` of GPTQ's desc_act).
   * Checked when the store opens; one that says what is the case anyway costs nothing after that.
   */
  readonly columnGroups?: TensorInfo;
}

export interface QuantizedCodes {
  /** Whatever its dtype, its bytes count; as many as the codes take. */
  readonly tensor: TensorInfo;
  readonly type: CodeType;
  /** 2 to 8 for `uint`, 8 for `int` and `float8_e4m3`, 4 for `float4_e2m1` and `table`. */
  readonly bits: number;
  readonly order: CodeOrder;
  /** For `table`: F32 `[16]`, the value of each code. */
  readonly table?: TensorInfo;
}

/** `uint` is unsigned, `int` in two's complement; `float8_e4m3` is the kind without infinities ("fn"). */
export type CodeType = 'uint' | 'int' | 'float8_e4m3' | 'float4_e2m1' | 'table';

/**
 * Where the code of an element lies, with b bits a code:
 *
 * - `rows`: row after row, each a stream of bits, the low ones of a byte first, filled up to a whole byte or 32-bit word, as the size of
 *   the tensor says;
 * - `rows_high_first`: the same for 4 bits, the high half of a byte first, and without gaps between rows (bitsandbytes);
 * - `columns`: 32-bit words `[K·b/32, N]`, each with 32/b neighbouring columns of a row, the first in the low bits (GPTQ); b is 2, 4
 *   or 8;
 * - `awq`: 32-bit words `[K, N/8]`, each with eight neighbouring rows of a column, in bits 0–3 the first, then those at +2, +4, +6,
 *   +1, +3, +5, +7; b is 4.
 */
export type CodeOrder = 'rows' | 'rows_high_first' | 'columns' | 'awq';

export interface QuantizedScales {
  /** One number a group, `[E,] ⌈rows / group rows⌉, ⌈columns / group columns⌉`, whatever dimensions its shape has for it. */
  readonly tensor: TensorInfo;
  /**
   * F32, F16, BF16 or F8_E4M3 tensors hold `float`s. `exponent`: a byte e stands for 2^(e − 127) (MX formats). `table`: bytes that
   * are looked up (bitsandbytes' double quantization).
   */
  readonly type: 'float' | 'exponent' | 'table';
  /**
   * Rows and columns that share a scale; the last groups of a matrix may be smaller. Or, as one number: elements, counted on from
   * row to row of the whole tensor.
   */
  readonly group: readonly [rows: number, columns: number] | number;
  /** Whether the grid is stored with its columns first, `[⌈K/group⌉, N]` (GPTQ, AWQ). */
  readonly transposed?: boolean;
  /** What every scale is multiplied or divided by, in float32: a number, or an F32 tensor of one element. */
  readonly multiplier?: number | TensorInfo;
  readonly divisor?: number | TensorInfo;
  /** For `table`: scale i is `values[byte i] · scales[⌊i / groupSize⌋] + offset`. */
  readonly table?: ScaleTable;
}

export interface ScaleTable {
  /** F32 `[256]`. */
  readonly values: TensorInfo;
  /** F32, one for each `groupSize` bytes. */
  readonly scales: TensorInfo;
  readonly groupSize: number;
  readonly offset: number;
}

/** A zero point of `codes.bits` bits for each row and group of columns, in 32-bit words. */
export interface QuantizedZeros {
  readonly tensor: TensorInfo;
  /**
   * With G groups of columns: `columns`: words `[G, N·b/32]`, the lower bits for the first of 32/b neighbouring rows (GPTQ); `awq`: the
   * same in the order of its codes; `rows`: words `[⌈N·b/32⌉, G]`, each of 32/b neighbouring rows (compressed-tensors).
   */
  readonly order: 'columns' | 'awq' | 'rows';
  /** Whether words are stored with 1 less in every place (GPTQ's first format): each is read as word + 0x1111…. Default false. */
  readonly lessOne?: boolean;
}
