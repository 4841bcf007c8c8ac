import type { WeightInfo, WeightSource } from '../../src/graph/weight-source.ts';

/** How a checkpoint stores its experts. */
export type Layout = 'separate' | 'fused' | 'fused_transposed';

/** Handles start here, so that no other number of a graph is taken for one. */
const FIRST_HANDLE = 1_000_000_000;

/** A checkpoint that has whatever a graph asks for, in bf16, with experts in one layout and none of the tensors whose names `lacks` fits. */
export class AnyWeights implements WeightSource {
  readonly #names: string[] = [];
  readonly #shapes = new Map<string, readonly number[]>();
  readonly #layout: Layout;
  readonly #experts: readonly [count: number, hidden: number, intermediate: number];
  readonly #lacks: RegExp;

  constructor(
    layout: Layout,
    experts: readonly [count: number, hidden: number, intermediate: number],
    lacks = /(?!)/,
  ) {
    this.#layout = layout;
    this.#experts = experts;
    this.#lacks = lacks;
  }

  info(name: string): WeightInfo | undefined {
    if (this.#lacks.test(name)) return undefined;
    const [count, hidden, intermediate] = this.#experts;
    const isTransposed = this.#layout === 'fused_transposed';
    if (name.endsWith('_proj')) {
      if (this.#layout === 'separate') return undefined;
      const [rows, columns] = name.endsWith('gate_up_proj')
        ? [2 * intermediate, hidden]
        : [hidden, intermediate];
      return { dtype: 'BF16', shape: isTransposed ? [count, columns, rows] : [count, rows, columns] };
    }
    // Of a tied pair of tables only the embedding is stored.
    if (name === 'lm_head.weight') return undefined;
    return { dtype: 'BF16', shape: this.#shapes.get(name) ?? [] };
  }

  request(name: string, shape: readonly number[]): WeightInfo {
    this.#shapes.set(name, shape);
    return { dtype: 'BF16', shape };
  }

  integers(): undefined {
    return undefined;
  }

  handle(name: string): number {
    const known = this.#names.indexOf(name);
    return FIRST_HANDLE + (known < 0 ? this.#names.push(name) - 1 : known);
  }

  readFloat32(name: string): Float32Array {
    return new Float32Array((this.#shapes.get(name) ?? []).reduce((a, b) => a * b, 1));
  }

  /** `listing` with every handle as the tensor it stands for, and its shape. */
  named(listing: string): string {
    return listing.replace(/\b1\d{9}\b/g, (handle) => {
      const name = this.#names[Number(handle) - FIRST_HANDLE] as string;
      return `${name}:[${this.#shapes.get(name)}]`;
    });
  }
}
