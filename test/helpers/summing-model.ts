/** A model small enough to see through: what it says next is the sum of all tokens so far, which a recurrent state keeps. */
import { float, type Graph, type Value } from '../../src/graph/graph.ts';
import type { Model } from '../../src/models/architecture.ts';
import { DecoderPass } from '../../src/models/pass.ts';
import type { CacheSpec, KeysValuesSpec } from '../../src/nn/cache-spec.ts';
import type { LayerPass } from '../../src/nn/pass.ts';
import { Scope, type Variant } from '../../src/nn/scope.ts';

const HEAD_DIM = 16;
const RECURRENT: CacheSpec = { kind: 'recurrent', states: { sum: [1, 2], count: [2] } };
const ATTENTION: KeysValuesSpec = { kind: 'keys_values', kvHeads: 1, headDim: HEAD_DIM };

/**
 * @param kinds of the layers. A recurrent one adds the sum of the tokens, one of attention the mean of the tokens
 *   times their number; both are exact in fp32.
 */
export function summingModel(vocabSize: number, kinds: readonly CacheSpec['kind'][]): Model {
  const caches = kinds.map((kind) => (kind === 'recurrent' ? RECURRENT : ATTENTION));
  const config = { hidden_size: 1, vocab_size: vocabSize, num_experts: 1, num_experts_per_tok: 1 };
  const build = (graph: Graph, variant: Variant) => {
    const g = new Scope(graph, variant);
    const rotary = () => ({ cos: zeros(g, 1), sin: zeros(g, 1) });
    const pass = new DecoderPass(g, config, { caches, positionAxes: 1, rotary, wholeLayers: kinds.length });
    const ids = g.op('Cast', [pass.ids], { to: 1 });
    const sums = kinds.map((kind, n) =>
      kind === 'recurrent' ? recurrentSum(g, ids, pass.layer(n)) : attendedSum(g, ids, pass.layer(n)),
    );
    const total = g.op('Sum', sums);
    pass.finish(column(g, total), (x, count) => scores(g, x, count, vocabSize));
  };
  return {
    ...{
      modelType: 'summing',
      subConfigs: [],
      declared: { dtype: 'float32' },
      vocabSize,
      contextLength: 4096,
    },
    ...{ hiddenSize: 1, positionAxes: 1, caches, routed: undefined, geometry: {}, build },
    work: { attention: [], use: () => ({ part: 'unknown', share: 1, isSurplusExpert: false }) },
    canonicalName: (stored) => stored,
    expertsContexts: () => [],
    expertsWeights: () => [],
  };
}

/** What `summingModel` says after these tokens. */
export function nextBySum(ids: readonly number[], vocabSize: number, layers: number): number {
  return (layers * ids.reduce((sum, id) => sum + id, 0)) % vocabSize;
}

/** Sum of each token's row up to it, fp32 [tokens], continued from and kept in the layer's state. */
function recurrentSum(g: Scope, x: Value, pass: LayerPass): Value {
  const { graph } = g;
  const [sum, count] = [pass.pastState('sum'), pass.pastState('count')];
  const starts = g.op('Slice', [pass.rowStarts, graph.int64([0]), graph.int64([-1])]);
  const ends = g.op('Slice', [pass.rowStarts, graph.int64([1]), graph.int64([2 ** 31])]);
  const upTo = g.op('CumSum', [x, graph.int64([0], [])]);
  const padded = g.op('Concat', [graph.float32([0]), upTo], { axis: 0 });
  const [atStart, atEnd] = [starts, ends].map((place) => g.op('Gather', [padded, place])) as [Value, Value];
  const after = g.op('Add', [pass.pastLengths, g.op('Sub', [ends, starts])]);
  // Two values take turns by the row's length, so that a single token may be computed twice, as recording one on the emulation does.
  const places = (lengths: Value) => {
    const slots = g.op('Add', [pass.stateSlots, pass.stateSlots]);
    const place = g.op('Add', [slots, g.op('Mod', [lengths, graph.int32([2])])]);
    return column(g, g.op('Cast', [place], { to: 7 }));
  };
  const hasPast = column(g, g.op('Greater', [pass.pastLengths, graph.int32([0])]));
  const past = (state: Value) => {
    const kept = g.op('GatherND', [flat(g, state), places(pass.pastLengths)]);
    return g.op('Where', [hasPast, kept, graph.float32([0])]);
  };
  const keep = (state: Value, value: Value) =>
    g.op('Reshape', [g.op('ScatterND', [flat(g, state), places(after), value]), g.op('Shape', [state])]);
  const before = past(sum);
  const added = g.op('Sub', [column(g, atEnd), column(g, atStart)]);
  const rowTokens = column(g, g.op('Cast', [g.op('Sub', [ends, starts])], { to: 1 }));
  pass.keepStates({
    sum: keep(sum, g.op('Add', [before, added])),
    count: keep(count, g.op('Add', [past(count), rowTokens])),
  });
  const rows = rowOfTokens(g, x, ends);
  const ofRow = (value: Value) => g.op('Gather', [value, rows]);
  return g.op('Add', [ofRow(row(g, before)), g.op('Sub', [upTo, ofRow(atStart)])]);
}

/** The same by attention that sees all tokens alike: their mean, times their number. */
function attendedSum(g: Scope, x: Value, pass: LayerPass): Value {
  const { graph } = g;
  const past = pass.pastKeysValues();
  const wide = (value: Value) =>
    g.op('Mul', [column(g, value), graph.float32(new Float32Array(HEAD_DIM).fill(1))]);
  const none = g.op('Mul', [wide(x), graph.float32([0])]);
  const table = g.op('Slice', [none, graph.int64([0]), graph.int64([0]), graph.int64([1])]);
  const [attended, key, value] = g.ownOps(
    'CachedAttention',
    [
      ...[none, none, wide(x), table, table, past.key, past.value, pass.rowStarts, pass.pastLengths],
      pass.blockTables,
    ],
    {
      num_heads: 1,
      kv_num_heads: 1,
      scale: float(1),
      window: -1,
      precision: 0,
      q_norm: -1,
      k_norm: -1,
      epsilon: float(1),
    },
    3,
  ) as [Value, Value, Value];
  pass.keepKeysValues({ key, value });
  const mean = row(g, g.op('Slice', [attended, graph.int64([0]), graph.int64([1]), graph.int64([1])]));
  const starts = g.op('Slice', [pass.rowStarts, graph.int64([0]), graph.int64([-1])]);
  const ends = g.op('Slice', [pass.rowStarts, graph.int64([1]), graph.int64([2 ** 31])]);
  const offsets = g.op('Gather', [g.op('Sub', [pass.pastLengths, starts]), rowOfTokens(g, x, ends)]);
  const seen = g.op('Add', [
    g.op('Cast', [offsets], { to: 1 }),
    g.op('Add', [tokenPlaces(g, x), graph.float32([1])]),
  ]);
  return g.op('Round', [g.op('Mul', [mean, seen])]);
}

/** The row of each token, int64 [tokens]: how many rows have ended before it. */
function rowOfTokens(g: Scope, x: Value, ends: Value): Value {
  const ended = g.op('LessOrEqual', [column(g, g.op('Cast', [ends], { to: 1 })), tokenPlaces(g, x)]);
  return g.op('ReduceSum', [g.op('Cast', [ended], { to: 7 }), g.graph.int64([0])], { keepdims: 0 });
}

/** 0, 1, … fp32 [tokens]. */
function tokenPlaces(g: Scope, x: Value): Value {
  const ones = g.op('Add', [g.op('Mul', [x, g.graph.float32([0])]), g.graph.float32([1])]);
  return g.op('CumSum', [ones, g.graph.int64([0], [])], { exclusive: 1 });
}

/** Highest where the id is the sum modulo the vocabulary. @param x fp32 [rows, 1] */
function scores(g: Scope, x: Value, count: Value, vocab: number) {
  const all = g.graph.float32(Float32Array.from({ length: vocab }, (_, id) => id));
  const distance = g.op('Sub', [all, g.op('Mod', [x, g.graph.float32([vocab])], { fmod: 1 })]);
  const logits = g.op('Neg', [g.op('Mul', [distance, distance])]);
  const [values, ids] = g.ownOps('TopCandidates', [logits, count], {}, 2) as [Value, Value];
  return { logits, candidates: { logits: values, ids } };
}

/** [n] as [n, 1]. */
function column(g: Scope, x: Value): Value {
  return g.op('Unsqueeze', [x, g.graph.int64([1])]);
}

/** [n, 1] as [n]. */
function row(g: Scope, x: Value): Value {
  return g.op('Squeeze', [x, g.graph.int64([1])]);
}

/** All values one by one, [values, 1]. */
function flat(g: Scope, x: Value): Value {
  return g.op('Reshape', [x, g.graph.int64([-1, 1])]);
}

function zeros(g: Scope, count: number): Value {
  return g.graph.float32(new Float32Array(count));
}
