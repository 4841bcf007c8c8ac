import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/runtime/ort.ts';
import { sigmoid, silu } from '../reference.ts';
import { pattern } from '../stored-tensors.ts';
import { expectClose, float, openOp, runOp, store } from './run-op.ts';

const [KEY_HEADS, GROUP, KEY_DIM, VALUE_DIM, KERNEL, SLOTS] = [2, 2, 6, 5, 3, 4];
const VALUE_HEADS = KEY_HEADS * GROUP;
const KEYS = KEY_HEADS * KEY_DIM;
const VALUES = VALUE_HEADS * VALUE_DIM;
const CHANNELS = 2 * KEYS + VALUES;
const EPSILON = 1e-6;

const tensor = (dims: readonly number[], seed: number) => {
  const count = dims.reduce((a, b) => a * b, 1);
  return new Tensor('float32', pattern(count, seed), dims);
};
const ints = (...values: number[]) => new Tensor('int32', Int32Array.from(values), [values.length]);
const data = (value: Tensor | undefined) => value?.data as Float32Array;

/** Rows of 3, 0 and 70 tokens; the first goes on from its slot. */
function inputs() {
  const tokens = 73;
  return {
    qkv: tensor([tokens, CHANNELS], 1),
    z: tensor([tokens, VALUES], 2),
    b: tensor([tokens, VALUE_HEADS], 3),
    a: tensor([tokens, VALUE_HEADS], 4),
    conv: tensor([KERNEL, CHANNELS], 5),
    a_log: tensor([VALUE_HEADS], 6),
    dt_bias: tensor([VALUE_HEADS], 7),
    norm: tensor([VALUE_DIM], 8),
    past_conv: tensor([SLOTS, KERNEL - 1, CHANNELS], 9),
    past_state: tensor([SLOTS, VALUE_HEADS, KEY_DIM, VALUE_DIM], 10),
    row_starts: ints(0, 3, 3, 73),
    past_lengths: ints(9, 4, 0),
    state_slots: ints(2, 0, 1),
  };
}
type Inputs = Record<keyof ReturnType<typeof inputs>, Tensor>;

const call = (feeds: Inputs, attributes: Record<string, number> = {}) => ({
  op: 'GatedDeltaNet',
  weights: store([]),
  attributes: { key_heads: KEY_HEADS, epsilon: { float: EPSILON }, ...attributes },
  inputs: feeds,
  outputs: [float('mixed', 2), float('present_conv', 3), float('present_state', 4)],
});

/** Every row token by token, in double precision; the states of its slot change in place. */
function recur(feeds: Inputs) {
  const [conv, state] = [[...data(feeds.past_conv)], [...data(feeds.past_state)]];
  const [starts, lengths, slots] = [feeds.row_starts, feeds.past_lengths, feeds.state_slots].map(
    (value) => value.data as Int32Array,
  ) as [Int32Array, Int32Array, Int32Array];
  const mixed: number[] = [];
  for (let row = 0; row < lengths.length; row++) {
    const atConv = (slots[row] as number) * (KERNEL - 1) * CHANNELS;
    const atState = (slots[row] as number) * VALUE_HEADS * KEY_DIM * VALUE_DIM;
    if (lengths[row] === 0) {
      conv.fill(0, atConv, atConv + (KERNEL - 1) * CHANNELS);
      state.fill(0, atState, atState + VALUE_HEADS * KEY_DIM * VALUE_DIM);
    }
    for (let t = starts[row] as number; t < (starts[row + 1] as number); t++) {
      const window = [...conv.slice(atConv, atConv + (KERNEL - 1) * CHANNELS)];
      window.push(...data(feeds.qkv).subarray(t * CHANNELS, (t + 1) * CHANNELS));
      const of = (channel: number) => {
        let sum = 0;
        for (let tap = 0; tap < KERNEL; tap++)
          sum +=
            (window[tap * CHANNELS + channel] as number) *
            (data(feeds.conv)[tap * CHANNELS + channel] as number);
        return silu(sum);
      };
      conv.splice(atConv, (KERNEL - 1) * CHANNELS, ...window.slice(CHANNELS));
      for (let head = 0; head < VALUE_HEADS; head++)
        mixed.push(...mixHead(feeds, state, atState + head * KEY_DIM * VALUE_DIM, of, t, head));
    }
  }
  return { mixed, conv, state };
}

function mixHead(
  feeds: Inputs,
  state: number[],
  at: number,
  mixedAt: (channel: number) => number,
  t: number,
  head: number,
): number[] {
  const keyHead = Math.floor(head / GROUP);
  const unit = (first: number) => {
    const raw = Array.from({ length: KEY_DIM }, (_, i) => mixedAt(first + keyHead * KEY_DIM + i));
    const length = Math.sqrt(raw.reduce((sum, x) => sum + x * x, 1e-6));
    return raw.map((x) => x / length);
  };
  const [q, k] = [unit(0).map((x) => x / Math.sqrt(KEY_DIM)), unit(KEYS)];
  const value = (of: Tensor, width: number) => data(of)[t * width + head] as number;
  const softplus = Math.log1p(Math.exp(value(feeds.a, VALUE_HEADS) + (data(feeds.dt_bias)[head] as number)));
  const decay = Math.exp(-Math.exp(data(feeds.a_log)[head] as number) * softplus);
  const beta = sigmoid(value(feeds.b, VALUE_HEADS));
  const out = Array.from({ length: VALUE_DIM }, (_, n) => {
    const cell = (i: number) => at + i * VALUE_DIM + n;
    const known = k.reduce((sum, x, i) => sum + decay * (state[cell(i)] as number) * x, 0);
    const delta = beta * (mixedAt(2 * KEYS + head * VALUE_DIM + n) - known);
    return q.reduce((sum, x, i) => {
      state[cell(i)] = decay * (state[cell(i)] as number) + (k[i] as number) * delta;
      return sum + (state[cell(i)] as number) * x;
    }, 0);
  });
  const rms = Math.sqrt(out.reduce((sum, x) => sum + x * x, 0) / VALUE_DIM + EPSILON);
  return out.map((x, n) => {
    const gate = data(feeds.z)[t * VALUES + head * VALUE_DIM + n] as number;
    return (x / rms) * (data(feeds.norm)[n] as number) * silu(gate);
  });
}

/** The same values as `in_proj_qkvz` and `in_proj_ba` of Qwen3-Next give them: key head by key head. */
function grouped(feeds: Inputs): Inputs {
  const tokens = feeds.qkv.dims[0] as number;
  const merge = (parts: readonly { of: Tensor; width: number; first: number; count: number }[]) => {
    const values: number[] = [];
    for (let t = 0; t < tokens; t++)
      for (let head = 0; head < KEY_HEADS; head++)
        for (const { of, width, first, count } of parts) {
          const from = t * width + first + head * count;
          values.push(...data(of).subarray(from, from + count));
        }
    return new Tensor('float32', Float32Array.from(values), [tokens, values.length / tokens]);
  };
  const [qkv, values] = [{ of: feeds.qkv, width: CHANNELS }, GROUP * VALUE_DIM];
  const qkvz = merge([
    { ...qkv, first: 0, count: KEY_DIM },
    { ...qkv, first: KEYS, count: KEY_DIM },
    { ...qkv, first: 2 * KEYS, count: values },
    { of: feeds.z, width: VALUES, first: 0, count: values },
  ]);
  const ba = merge([feeds.b, feeds.a].map((of) => ({ of, width: VALUE_HEADS, first: 0, count: GROUP })));
  return { ...feeds, qkv: qkvz, z: qkvz, b: ba, a: ba };
}

describe('GatedDeltaNet', () => {
  it.each([0, 1])('mixes rows as the recurrence does, grouped %i', async (isGrouped) => {
    const feeds = inputs();
    const found = await runOp(call(isGrouped ? grouped(feeds) : feeds, { grouped: isGrouped }));
    const expected = recur(feeds);
    expectClose(found.mixed, expected.mixed);
    expectClose(found.present_conv, expected.conv);
    expectClose(found.present_state, expected.state);
  });

  it('changes states in place where past and present are one memory', async () => {
    const feeds = inputs();
    const expected = recur(feeds);
    const session = await openOp(call(feeds));
    await session.run(feeds, { mixed: null, present_conv: feeds.past_conv, present_state: feeds.past_state });
    expectClose(feeds.past_conv, expected.conv);
    expectClose(feeds.past_state, expected.state);
  });

  it('goes on in a later pass where an earlier one ended', async () => {
    const whole = inputs();
    const [first, count] = [3, 70];
    const part = (from: number, to: number, past: number): Inputs => {
      const slice = (of: Tensor) => {
        const width = of.dims[1] as number;
        const values = data(of).slice((first + from) * width, (first + to) * width);
        return new Tensor('float32', values, [to - from, width]);
      };
      const [qkv, z, b, a] = [whole.qkv, whole.z, whole.b, whole.a].map(slice) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const rows = { row_starts: ints(0, to - from), past_lengths: ints(past), state_slots: ints(1) };
      return { ...whole, qkv, z, b, a, ...rows };
    };
    const { mixed } = recur(whole);
    const session = await openOp(call(part(0, 1, 0)));
    const cuts = [0, 1, 4, 69, count];
    for (const [i, from] of cuts.slice(0, -1).entries()) {
      const to = cuts[i + 1] as number;
      const fetches = { mixed: null, present_conv: whole.past_conv, present_state: whole.past_state };
      const found = await session.run(part(from, to, from), fetches);
      expectClose(found.mixed, mixed.slice((first + from) * VALUES, (first + to) * VALUES));
    }
  });

  it('accepts no tokens and leaves the states alone', async () => {
    const feeds = inputs();
    const none = (of: Tensor) => new Tensor('float32', new Float32Array(0), [0, of.dims[1] as number]);
    const [qkv, z, b, a] = [feeds.qkv, feeds.z, feeds.b, feeds.a].map(none) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const found = await runOp(call({ ...feeds, qkv, z, b, a, row_starts: ints(0, 0, 0, 0) }));
    expect(found.mixed?.dims).toEqual([0, VALUES]);
    expectClose(found.present_state, [...data(feeds.past_state)]);
  });

  it.each<[string, Partial<Inputs>, Record<string, number>, RegExp]>([
    [
      'a slot beyond the pool',
      { state_slots: ints(2, 0, 4) },
      {},
      /'state_slots' is 4 for row 2; .*slots 0 to 3/,
    ],
    [
      'rows that share a slot',
      { state_slots: ints(2, 0, 2) },
      {},
      /'state_slots' gives row 0 and row 2 slot 2/,
    ],
    ['rows that fall', { row_starts: ints(0, 5, 3, 73) }, {}, /'row_starts' falls from 5 to 3 after row 1/],
    [
      'rows that end early',
      { row_starts: ints(0, 3, 3, 72) },
      {},
      /'row_starts' goes from 0 to 72; expected 0 to 73/,
    ],
    ['a past below none', { past_lengths: ints(9, -1, 0) }, {}, /'past_lengths' is -1 for row 1/],
    ['queries of another width', {}, { grouped: 1 }, /'qkv' has shape \[73, 44\]; expected \[73, 64\]/],
    [
      'heads that do not divide',
      {},
      { key_heads: 3 },
      /'past_state' has shape .*; expected \[slots, a multiple of 3/,
    ],
    ['no key heads', {}, { key_heads: 0 }, /'key_heads' is 0; expected at least 1/],
    ['no taps', { conv: tensor([0, CHANNELS], 1) }, {}, /'conv' has shape \[0, 44\]; expected 1 to 64 taps/],
  ])('refuses %s', async (_, wrong, attributes, message) => {
    await expect(runOp(call({ ...inputs(), ...wrong }, attributes))).rejects.toThrow(message);
  });
});
