import type { Value } from '../graph/graph.ts';
import type { CacheSpec, KeysValuesSpec, RecurrentSpec } from '../nn/cache-spec.ts';
import { gatherRows } from '../nn/embedding.ts';
import type { Scores } from '../nn/lm-head.ts';
import type { LayerPass } from '../nn/pass.ts';
import type { RotaryTables } from '../nn/rope.ts';
import type { Scope, Variant } from '../nn/scope.ts';
import * as io from './io.ts';

/** What a pass has to know of its decoder. */
export interface PassConfig {
  readonly hidden_size: number;
  readonly vocab_size: number;
  readonly num_experts: number;
  readonly num_experts_per_tok: number;
}

export interface PassOptions {
  readonly caches: readonly CacheSpec[];
  /** Of a token's rotary position. */
  readonly positionAxes: number;
  /** As of `Model`. */
  readonly precedingIds?: number;
  readonly positionBlock?: number;
  readonly residualSize?: number;
  rotary(positions: Value): RotaryTables;
  /** Layers behind which every position is still needed, wanted or not. */
  readonly wholeLayers?: number;
}

/** A pass of a decoder as its layers see it: what they need lies in graph inputs, what they leave becomes graph outputs. */
export class DecoderPass {
  /** int64 [tokens] */
  readonly ids: Value;
  /** int64 [count, tokens]: the ids before each token; of models that ask for them. */
  readonly precedingIds: Value | undefined;
  readonly #g: Scope<Variant>;
  readonly #config: PassConfig;
  readonly #residualSize: number;
  readonly #caches: readonly CacheSpec[];
  readonly #shared: Pick<
    LayerPass,
    'rotary' | 'blockRotary' | 'rowStarts' | 'pastLengths' | 'blockTables' | 'stateSlots' | 'implementation'
  >;
  /** Tokens whose logits are wanted; undefined for graphs without a head. */
  readonly #rows: Value | undefined;
  /** Whether the last layer drops all other positions before its feed-forward. The caches still get every one. */
  readonly #dropsEarly: boolean;

  constructor(g: Scope<Variant>, config: PassConfig, options: PassOptions) {
    this.#g = g;
    this.#config = config;
    this.#caches = options.caches;
    this.ids = this.input(io.INPUT_IDS);
    const { positionAxes, precedingIds, positionBlock } = options;
    this.precedingIds = precedingIds ? this.input(io.precedingIds(precedingIds)) : undefined;
    this.#residualSize = options.residualSize ?? config.hidden_size;
    const { blockTables, stateSlots } = io.cacheInputs(options.caches);
    this.#shared = {
      implementation: this.input(io.EXPERTS_IMPLEMENTATION),
      rotary: options.rotary(this.input(io.positionIds(positionAxes))),
      blockRotary: positionBlock ? options.rotary(this.input(io.blockPositions(positionAxes))) : undefined,
      rowStarts: this.input(io.ROW_STARTS),
      pastLengths: this.input(io.PAST_LENGTHS),
      blockTables: blockTables && this.input(blockTables),
      stateSlots: stateSlots && this.input(stateSlots),
    };
    const { head, intermediates } = g.variant;
    this.#rows = head === 'logits' ? this.input(io.LOGITS_ROWS) : undefined;
    this.#dropsEarly = !intermediates && (options.wholeLayers ?? 0) < options.caches.length;
  }

  /** Declares an input. */
  input({ name, dtype, shape }: io.Port): Value {
    return this.#g.graph.input(name, dtype, shape);
  }

  layer(n: number): LayerPass {
    const { num_experts: experts, num_experts_per_tok: topK } = this.#config;
    const isLast = n + 1 === this.#caches.length;
    const { cacheDtype } = this.#g.variant;
    const keysValues = () => io.keysValuesPorts(n, this.#caches[n] as KeysValuesSpec, cacheDtype);
    const index = () => io.indexPorts(n, this.#caches[n] as KeysValuesSpec, cacheDtype);
    const stateNamed = (name: string) =>
      io.statePorts(n, this.#caches[n] as RecurrentSpec)[name] as io.CachePorts;
    return {
      ...this.#shared,
      layer: n,
      rows: isLast && this.#dropsEarly ? this.#rows : undefined,
      pastKeysValues: () => {
        const { key, value } = keysValues();
        return { key: this.input(key.past), value: this.input(value.past) };
      },
      keepKeysValues: (present) => {
        const { key, value } = keysValues();
        this.#output(present.key, key.present);
        this.#output(present.value, value.present);
      },
      pastIndex: () => this.input(index().past),
      keepIndex: (present) => this.#output(present, index().present),
      pastState: (name) => this.input(stateNamed(name).past),
      keepStates: (kept) => {
        for (const [name, value] of Object.entries(kept)) this.#output(value, stateNamed(name).present);
      },
      keepHidden: (x) => this.#intermediate(x, io.hiddenStates(n, this.#residualSize)),
      keepRouting: (routing) => {
        this.#intermediate(routing.logits, io.routerLogits(n, experts));
        if (!this.#g.variant.intermediates && !this.#g.variant.routing) return;
        this.#output(routing.indices, io.routerIndices(n, topK));
        this.#output(routing.weights, io.routerWeights(n, topK));
      },
    };
  }

  /**
   * Ends the pass.
   * @param x after the final norm, fp32 [tokens, hidden], or [wanted, hidden] where the last layer dropped the rest
   * @param head scores rows, fp32 [wanted, hidden]
   */
  finish(x: Value, head: (x: Value, candidates: Value) => Scores): void {
    const { hidden_size: hidden, vocab_size: vocab } = this.#config;
    this.#intermediate(x, io.hiddenStates(this.#caches.length, hidden));
    if (!this.#rows) {
      this.#output(x, io.lastHiddenState(hidden));
      return;
    }
    const wanted = this.#dropsEarly ? x : gatherRows(this.#g, x, this.#rows);
    const { logits, candidates } = head(wanted, this.input(io.CANDIDATES));
    this.#output(logits, io.logits(vocab));
    this.#output(candidates.logits, io.CANDIDATE_LOGITS);
    this.#output(candidates.ids, io.CANDIDATE_IDS);
  }

  #intermediate(value: Value, port: io.Port): void {
    if (this.#g.variant.intermediates) this.#output(value, port);
  }

  #output(value: Value, { name, dtype, shape }: io.Port): void {
    this.#g.graph.output(value, name, dtype, shape);
  }
}
