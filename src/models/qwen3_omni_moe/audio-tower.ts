import { float, SWITCHYARD_DOMAIN, type Value } from '../../graph/graph.ts';
import { linear, linears } from '../../nn/linear.ts';
import { layerNorm } from '../../nn/norm.ts';
import type { Scope } from '../../nn/scope.ts';
import * as io from '../io.ts';
import { type AudioConfig, tokensOfChunk } from './audio-config.ts';

const NORM_EPSILON = 1e-5;
const MAX_TIMESCALE = 10_000;
/** Of a side of a convolution's kernel. */
const TAPS = 3;
/** To the end, for a slice. */
const LAST = 2n ** 63n - 1n;

/** Inputs of the audio tower: some chunks of a spectrogram, how many tokens of them are a sound's, and how many each has. */
export function audioPorts({ num_mel_bins: bands }: AudioConfig) {
  return {
    features: io.soundFeatures(bands),
    tokens: io.SOUND_TOKENS,
    chunkTokens: io.SOUND_CHUNK_TOKENS,
  };
}

/**
 * The audio tower of Qwen3-Omni for one window of a sound: chunks of its spectrogram in, a token for every 8 frames out (HF
 * `Qwen3OmniMoeAudioEncoder`). Inputs: see `audioPorts`; output: `towerEmbeds` of `io.ts`.
 */
export function buildAudioTower(g: Scope, config: AudioConfig): void {
  const { graph } = g;
  const { d_model: width, downsample_hidden_size: channels, num_mel_bins: bands } = config;
  const ports = audioPorts(config);
  const input = ({ name, dtype, shape }: io.Port) => graph.input(name, dtype, shape);
  // Channels last, as products of matrices take them.
  let x = g.op('Unsqueeze', [input(ports.features), graph.int64([3])]);
  x = convolution(g.at('conv2d1'), x, 1, channels);
  x = convolution(g.at('conv2d2'), x, channels, channels);
  x = convolution(g.at('conv2d3'), x, channels, channels);
  const left = tokensOfChunk(bands);
  const byTime = g.op('Transpose', [x], { perm: [0, 2, 3, 1] });
  const flat = g.op('Reshape', [byTime, graph.int64([0, 0, channels * left])]);
  const projected = linear(g.at('conv_out'), flat, channels * left, width, false);
  const placed = g.op('Add', [projected, positions(g, input(ports.chunkTokens), config)]);
  const all = g.op('Reshape', [placed, graph.int64([1, -1, width])]);
  x = g.op('Slice', [all, graph.int64([0]), input(ports.tokens), graph.int64([1])]);
  for (let n = 0; n < config.encoder_layers; n++) x = layer(g.at(`layers.${n}`), x, config);
  x = layerNorm(g.at('ln_post'), x, width, NORM_EPSILON);
  x = g.op('Gelu', [linear(g.at('proj1'), x, width, width, true)]);
  x = linear(g.at('proj2'), x, width, config.output_dim, true);
  const { name, dtype, shape } = io.towerEmbeds(config.output_dim);
  graph.output(g.op('Squeeze', [x, graph.int64([0])]), name, dtype, shape);
}

/**
 * A convolution of stride 2 and GELU: a product with the flattened kernel, over every other neighbourhood.
 * @param x fp32 [chunks, bands, frames, from]
 * @returns fp32 [chunks, ⌈bands / 2⌉, ⌈frames / 2⌉, to]
 */
function convolution(g: Scope, x: Value, from: number, to: number): Value {
  const { graph } = g;
  const padded = bordered(g, bordered(g, x, 1), 2);
  const taps: Value[] = [];
  for (let row = 0; row < TAPS; row++)
    for (let column = 0; column < TAPS; column++) {
      const first = graph.int64([row, column]);
      const ends = graph.int64([endOfTap(row), endOfTap(column)]);
      const slice = [padded, first, ends, graph.int64([1, 2]), graph.int64([2, 2])];
      taps.push(g.op('Unsqueeze', [g.op('Slice', slice), graph.int64([4])]));
    }
  const neighbourhoods = g.op('Reshape', [
    g.op('Concat', taps, { axis: 4 }),
    graph.int64([0, 0, 0, from * TAPS * TAPS]),
  ]);
  const weights = [g.weight('weight', [to, from, TAPS, TAPS])];
  const biases = [g.weight('bias', [to])];
  const [y] = g.ownOps('Linear', [neighbourhoods], { weights, biases, ...g.computing }) as [Value];
  return g.op('Gelu', [y]);
}

/**
 * Zeros before and behind along an axis, as many as any neighbourhood reaches. Neither by `Pad`, of which ONNX Runtime's CUDA provider has
 * no kernel for this opset, nor is anything here computed from shapes: the host would do both, in the middle of a GPU's nodes.
 */
function bordered(g: Scope, x: Value, axis: number): Value {
  const { graph } = g;
  const first = g.op('Slice', [x, graph.int64([0]), graph.int64([1]), graph.int64([axis])]);
  const zeros = g.op('Mul', [first, g.named((all) => all.float32([0], []))]);
  return g.op('Concat', [zeros, x, zeros], { axis });
}

/** Where a tap's slice of the bordered rows (or columns) ends, counted from the end: as many behind its first as x has of them. */
function endOfTap(first: number): bigint {
  return first === TAPS - 1 ? LAST : BigInt(first - (TAPS - 1));
}

/** Sinusoids of a chunk's tokens. @param count int64 [1] */
function positions(g: Scope, count: Value, { d_model: width, n_window }: AudioConfig): Value {
  const tokens = tokensOfChunk(2 * n_window);
  const half = width / 2;
  const step = Math.log(MAX_TIMESCALE) / (half - 1);
  const values = Float32Array.from({ length: tokens * width }, (_, i) => {
    const [token, column] = [Math.floor(i / width), i % width];
    const angle = token * Math.fround(Math.exp(-step * (column % half)));
    return column < half ? Math.sin(angle) : Math.cos(angle);
  });
  const table = g.named((graph) => graph.float32(values, [tokens, width]));
  return g.op('Slice', [table, g.graph.int64([0]), count, g.graph.int64([0])]);
}

/** HF `Qwen3OmniMoeAudioEncoderLayer`. @param x fp32 [1, tokens, width] */
function layer(g: Scope, x: Value, config: AudioConfig): Value {
  const { d_model: width, encoder_ffn_dim: wide } = config;
  const normed = layerNorm(g.at('self_attn_layer_norm'), x, width, NORM_EPSILON);
  const middle = g.op('Add', [x, attention(g.at('self_attn'), normed, config)]);
  const again = layerNorm(g.at('final_layer_norm'), middle, width, NORM_EPSILON);
  const inner = g.op('Gelu', [linear(g.at('fc1'), again, width, wide, true)]);
  return g.op('Add', [middle, linear(g.at('fc2'), inner, wide, width, true)]);
}

/** Bidirectional attention among the tokens of a window (HF `Qwen3OmniMoeAudioAttention`). */
function attention(
  g: Scope,
  x: Value,
  { d_model: width, encoder_attention_heads: heads }: AudioConfig,
): Value {
  const project = (name: string) => ({ name, outFeatures: width, bias: true });
  const projected = linears(g, x, width, ['q_proj', 'k_proj', 'v_proj'].map(project));
  const attended = g.op(
    'Attention',
    projected,
    {
      num_heads: heads,
      kv_num_heads: heads,
      scale: float((width / heads) ** -0.5),
      precision: g.precision,
    },
    { domain: SWITCHYARD_DOMAIN },
  );
  return linear(g.at('out_proj'), attended, width, width, true);
}
