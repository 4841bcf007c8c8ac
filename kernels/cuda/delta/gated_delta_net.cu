// Linear attention by the gated delta rule: a convolution of all tokens at once, then the rule token by token
// with a head's state in registers, then the norm.
#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "slot_rows.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr float kLengthEpsilon = 1e-6f;  // added to the sum of squares of a query or key

__device__ int64_t Channels(const GatedDeltaNetArgs& p) {
  return 2 * static_cast<int64_t>(p.key_heads) * p.key_dim +
         static_cast<int64_t>(p.value_heads) * p.value_dim;
}

// What a channel of the convolution is projected to for a token.
__device__ float InputOf(const GatedDeltaNetArgs& p, int64_t token, int64_t channel) {
  const int64_t keys = static_cast<int64_t>(p.key_heads) * p.key_dim;
  const int64_t values = static_cast<int64_t>(p.value_heads / p.key_heads) * p.value_dim;
  const KeyHeadValues& of = channel < keys ? p.q : channel < 2 * keys ? p.k : p.v;
  const int64_t at = channel < keys ? channel : channel < 2 * keys ? channel - keys : channel - 2 * keys;
  const int64_t width = channel < 2 * keys ? p.key_dim : values;
  return of.data[token * of.token_stride + at / width * of.head_stride + at % width];
}

// A value that each value head has one of.
__device__ float GateOf(const GatedDeltaNetArgs& p, const KeyHeadValues& of, int64_t token, int head) {
  const int group = p.value_heads / p.key_heads;
  return of.data[token * of.token_stride + head / group * of.head_stride + head % group];
}

// Scratch memory: [tokens, channels] convolved, then decay and beta, each [tokens, value_heads].
struct Scratch {
  float *mixed, *decay, *beta;
};

__host__ __device__ inline Scratch CutScratch(const GatedDeltaNetArgs& p, int64_t channels) {
  float* mixed = static_cast<float*>(p.workspace);
  float* decay = mixed + p.tokens * channels;
  return {mixed, decay, decay + p.tokens * p.value_heads};
}

// One block convolves a token, and brings its queries and keys to length 1.
__global__ void __launch_bounds__(kThreads)
    delta_convolve_kernel(const __grid_constant__ GatedDeltaNetArgs p) {
  const int64_t token = blockIdx.x;
  const int64_t channels = Channels(p);
  WaitForPrevious();
  const SlotRow row = SlotRowOf(p, token);
  if (row.end == 0) return;
  const Scratch scratch = CutScratch(p, channels);
  float* mixed = scratch.mixed + token * channels;
  const int64_t context = p.kernel - 1;
  const float* kept = p.conv_states + row.slot * context * channels;
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    float sum = 0.0f;
    for (int64_t tap = 0; tap < p.kernel; ++tap) {
      const int64_t from = token - context + tap;
      float x = 0.0f;
      if (from >= row.first) {
        x = InputOf(p, from, c);
      } else if (!row.fresh) {
        x = kept[(from - row.first + context) * channels + c];
      }
      sum = fmaf(x, p.conv[tap * channels + c], sum);
    }
    mixed[c] = Silu(sum);
  }
  for (int head = threadIdx.x; head < p.value_heads; head += kThreads) {
    const float a = GateOf(p, p.a, token, head) + p.dt_bias[head];
    const float softplus = a > 20.0f ? a : log1pf(expf(a));
    scratch.decay[token * p.value_heads + head] = expf(-expf(p.a_log[head]) * softplus);
    scratch.beta[token * p.value_heads + head] = Sigmoid(GateOf(p, p.b, token, head));
  }
  __syncthreads();
  const int lane = threadIdx.x % kWarpSize;
  for (int head = threadIdx.x / kWarpSize; head < 2 * p.key_heads; head += kWarps) {
    float* x = mixed + static_cast<int64_t>(head) * p.key_dim;
    float squares = 0.0f;
    for (int i = lane; i < p.key_dim; i += kWarpSize) squares += x[i] * x[i];
    float scale = 1.0f / sqrtf(WarpSum(squares) + kLengthEpsilon);
    if (head < p.key_heads) scale /= sqrtf(static_cast<float>(p.key_dim));
    for (int i = lane; i < p.key_dim; i += kWarpSize) x[i] *= scale;
  }
}

// The convolution's last inputs of a row, a thread a channel: what is kept moves towards the front, which was
// read before.
__global__ void __launch_bounds__(kThreads) delta_keep_kernel(const __grid_constant__ GatedDeltaNetArgs p) {
  const int64_t channels = Channels(p);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  WaitForPrevious();
  const SlotRow row = SlotRowAt(p, blockIdx.y);
  const int64_t tokens = row.end - row.first;
  if (channel >= channels || tokens == 0) return;
  const int64_t context = p.kernel - 1;
  float* kept = p.conv_states + row.slot * context * channels + channel;
  for (int64_t i = 0; i < context; ++i) {
    const int64_t from = tokens + i - context;
    float x = 0.0f;
    if (from >= 0) {
      x = InputOf(p, row.first + from, channel);
    } else if (!row.fresh) {
      x = kept[(tokens + i) * channels];
    }
    kept[i * channels] = x;
  }
}

// The delta rule over a row's tokens for kColumns columns of a head's state. Lane l has rows l, l + 32, ...
// of these columns in registers, so that a token costs no memory but its own query, key and values. States
// are on their way before the kernel before has ended, which leaves them alone.
template <int kPerLane, int kColumns>
__global__ void __launch_bounds__(kThreads) delta_rule_kernel(const __grid_constant__ GatedDeltaNetArgs p) {
  const int lane = threadIdx.x % kWarpSize;
  const int blocks = static_cast<int>(CeilDiv(p.value_dim, kWarps * kColumns));
  const int block = static_cast<int>(blockIdx.x) % blocks;
  const int column = (block * kWarps + static_cast<int>(threadIdx.x) / kWarpSize) * kColumns;
  const int head = static_cast<int>(blockIdx.y);
  const SlotRow row = SlotRowAt(p, static_cast<int64_t>(blockIdx.x) / blocks);
  if (column >= p.value_dim || row.end == row.first) {
    WaitForPrevious();
    return;
  }
  const int64_t channels = Channels(p);
  const Scratch scratch = CutScratch(p, channels);
  float* states = p.states + (row.slot * p.value_heads + head) * p.key_dim * p.value_dim + column;
  float state[kPerLane][kColumns];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int k = lane + i * kWarpSize;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const bool inside = k < p.key_dim && column + c < p.value_dim && !row.fresh;
      state[i][c] = inside ? LoadFresh(states + static_cast<int64_t>(k) * p.value_dim + c) : 0.0f;
    }
  }
  WaitForPrevious();
  const int64_t keys = static_cast<int64_t>(p.key_heads) * p.key_dim;
  const int64_t key_head = head / (p.value_heads / p.key_heads);
  for (int64_t token = row.first; token < row.end; ++token) {
    const float* mixed = scratch.mixed + token * channels;
    const float* q = mixed + key_head * p.key_dim;
    const float* v = mixed + 2 * keys + static_cast<int64_t>(head) * p.value_dim + column;
    const float decay = scratch.decay[token * p.value_heads + head];
    const float beta = scratch.beta[token * p.value_heads + head];
    float key[kPerLane], query[kPerLane], sums[kColumns];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int k = lane + i * kWarpSize;
      query[i] = k < p.key_dim ? q[k] : 0.0f;
      key[i] = k < p.key_dim ? q[keys + k] : 0.0f;
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float known = 0.0f;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) known = fmaf(state[i][c], key[i], known);
      const float value = column + c < p.value_dim ? v[c] : 0.0f;
      const float delta = (value - decay * WarpSum(known)) * beta;
      sums[c] = 0.0f;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        state[i][c] = fmaf(key[i], delta, decay * state[i][c]);
        sums[c] = fmaf(state[i][c], query[i], sums[c]);
      }
    }
    float* out = p.out + (token * p.value_heads + head) * p.value_dim + column;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float sum = WarpSum(sums[c]);
      if (lane == c && column + c < p.value_dim) out[c] = sum;
    }
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int k = lane + i * kWarpSize;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (k < p.key_dim && column + c < p.value_dim)
        states[static_cast<int64_t>(k) * p.value_dim + c] = state[i][c];
    }
  }
}

// One warp norms and gates a head of a token.
__global__ void __launch_bounds__(kThreads) delta_norm_kernel(const __grid_constant__ GatedDeltaNetArgs p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  WaitForPrevious();
  if (index >= p.tokens * p.value_heads) return;
  const int lane = threadIdx.x % kWarpSize;
  const int64_t token = index / p.value_heads;
  const int head = static_cast<int>(index % p.value_heads);
  const int group = p.value_heads / p.key_heads;
  const float* z = p.z.data + token * p.z.token_stride + head / group * p.z.head_stride +
                   static_cast<int64_t>(head % group) * p.value_dim;
  float* out = p.out + index * p.value_dim;
  float squares = 0.0f;
  for (int i = lane; i < p.value_dim; i += kWarpSize) squares += out[i] * out[i];
  const float scale = 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(p.value_dim) + p.epsilon);
  for (int i = lane; i < p.value_dim; i += kWarpSize) {
    const float normed = out[i] * scale * p.norm[i];
    out[i] = p.gated ? normed * Silu(z[i]) : normed;
  }
}

template <int kPerLane, int kColumns>
cudaError_t LaunchRule(const GatedDeltaNetArgs& args, cudaStream_t stream) {
  const int64_t blocks = CeilDiv(args.value_dim, kWarps * kColumns);
  const dim3 grid(static_cast<unsigned>(args.rows * blocks), static_cast<unsigned>(args.value_heads));
  return LaunchDependentKernel(delta_rule_kernel<kPerLane, kColumns>, grid, dim3(kThreads), 0, stream, args);
}

cudaError_t LaunchRuleFor(const GatedDeltaNetArgs& args, cudaStream_t stream) {
  if (args.key_dim <= 2 * kWarpSize) return LaunchRule<2, 8>(args, stream);
  if (args.key_dim <= 4 * kWarpSize) return LaunchRule<4, 8>(args, stream);
  return LaunchRule<8, 4>(args, stream);
}

bool Fits(const GatedDeltaNetArgs& args) {
  return args.tokens >= 0 && args.rows >= 0 && args.rows <= kMaxGridY && args.slots >= 0 &&
         args.key_heads > 0 && args.value_heads > 0 && args.value_heads <= kMaxGridY &&
         args.value_heads % args.key_heads == 0 && args.key_dim > 0 && args.key_dim <= kMostDeltaKeys &&
         args.value_dim > 0 && args.kernel > 0;
}

}  // namespace

size_t GatedDeltaNetWorkspaceBytes(const GatedDeltaNetArgs& args) {
  const int64_t channels =
      2 * int64_t{args.key_heads} * args.key_dim + int64_t{args.value_heads} * args.value_dim;
  return static_cast<size_t>(args.tokens * (channels + 2 * args.value_heads)) * sizeof(float);
}

cudaError_t LaunchGatedDeltaNet(const GatedDeltaNetArgs& args, cudaStream_t stream) {
  if (!Fits(args)) return cudaErrorInvalidValue;
  if (args.tokens == 0 || args.rows == 0) return cudaSuccess;
  if (args.workspace == nullptr || args.workspace_bytes < GatedDeltaNetWorkspaceBytes(args)) {
    return cudaErrorInvalidValue;
  }
  const int64_t channels =
      2 * int64_t{args.key_heads} * args.key_dim + int64_t{args.value_heads} * args.value_dim;
  const int64_t heads = args.tokens * args.value_heads;
  // Tokens of a row that is refused keep these zeros.
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(args.out, 0, static_cast<size_t>(heads * args.value_dim) * sizeof(float), stream));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchDependentKernel(
      delta_convolve_kernel, dim3(static_cast<unsigned>(args.tokens)), dim3(kThreads), 0, stream, args));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchDependentKernel(
      delta_keep_kernel,
      dim3(static_cast<unsigned>(CeilDiv(channels, kThreads)), static_cast<unsigned>(args.rows)),
      dim3(kThreads), 0, stream, args));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchRuleFor(args, stream));
  return LaunchDependentKernel(delta_norm_kernel, dim3(static_cast<unsigned>(CeilDiv(heads, kWarps))),
                               dim3(kThreads), 0, stream, args);
}

}  // namespace switchyard::cuda
