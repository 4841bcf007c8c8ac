// The step before attention: norms, rotation, conversion, extending the cache.
#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kPerLane = kMaxHeadDim / kWarpSize;

// q, k or v on its way to where it is attended with.
struct HeadStream {
  const float* x;  // [tokens, heads, head_dim]
  const void* norm;
  bool rotated;
  bool kept;  // keys and values: go to their rows' positions
  void* out;
  int tokens, heads, pitch;
};

struct StreamParams {
  HeadStream streams[3];  // q, k, v
  const float* cos;
  const float* sin;
  int pairs;
  float epsilon, norm_offset;
};

// Where a head of a token goes, in elements; -1 for nowhere.
__device__ int64_t PlaceOf(const AttentionParams& p, const HeadStream& stream, int token, int head) {
  if (!stream.kept) return (static_cast<int64_t>(token) * stream.heads + head) * stream.pitch;
  if (p.row_starts == nullptr) return KeyOffset(p, token / p.row_keys, head, token % p.row_keys);
  const RowSpan span = SpanOf(p, RowOf(p, token));
  const int index = token - span.first;
  if (span.keys == 0 || index < 0 || index >= span.tokens) return -1;
  return KeyOffset(p, span.row, head, span.past + index);
}

// One warp prepares one head of one token; `index` counts a stream's [tokens, heads].
template <typename T>
__device__ void PrepareHead(const AttentionParams& p, const StreamParams& s, const HeadStream& stream,
                            int64_t index) {
  const int lane = threadIdx.x % kWarpSize;
  const int dim = p.head_dim;
  const int head = static_cast<int>(index % stream.heads);
  const int token = static_cast<int>(index / stream.heads);
  const int64_t place = PlaceOf(p, stream, token, head);
  if (place < 0) return;
  const float* x = stream.x + index * dim;
  float values[kPerLane];
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    values[i] = d < dim ? x[d] : 0.0f;
    squares += values[i] * values[i];
  }
  const T* norm = static_cast<const T*>(stream.norm);
  const float factor =
      norm == nullptr ? 1.0f : 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(dim) + s.epsilon);
  const auto scale = [&](float value, int d) {
    return norm == nullptr ? value : value * factor * (s.norm_offset + ToFloat(norm[d]));
  };
  const int pairs = stream.rotated ? s.pairs : 0;
  const int64_t angles = static_cast<int64_t>(token) * pairs;
  T* to = static_cast<T*>(stream.out) + place;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    if (d >= stream.pitch) continue;
    float value = d < dim ? scale(values[i], d) : 0.0f;
    if (d < pairs) {
      value = value * s.cos[angles + d] - scale(x[d + pairs], d + pairs) * s.sin[angles + d];
    } else if (d < 2 * pairs) {
      const int64_t angle = angles + d - pairs;
      value = value * s.cos[angle] + scale(x[d - pairs], d - pairs) * s.sin[angle];
    }
    to[d] = FromFloat<T>(value);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    attention_prepare_kernel(const __grid_constant__ AttentionParams p,
                             const __grid_constant__ StreamParams s) {
  int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const HeadStream& stream = s.streams[i];
    const int64_t count = static_cast<int64_t>(stream.tokens) * stream.heads;
    if (index >= 0 && index < count) PrepareHead<T>(p, s, stream, index);
    index -= count;
  }
}

}  // namespace

cudaError_t LaunchAttentionPrepare(const AttentionParams& p, const PrepareParams& prepare, DType dtype,
                                   cudaStream_t stream) {
  void* q = const_cast<void*>(p.q);
  void* keys = const_cast<void*>(p.keys);
  void* values = const_cast<void*>(p.values);
  const int key_tokens = prepare.k == nullptr ? 0 : prepare.key_tokens;
  const StreamParams streams = {
      {{prepare.q, prepare.q_norm, true, false, q, p.tokens, p.heads, p.q_pitch},
       {prepare.k, prepare.k_norm, true, true, keys, key_tokens, p.kv_heads, p.key_pitch},
       {prepare.v, nullptr, false, true, values, prepare.key_tokens, p.kv_heads, p.key_pitch}},
      prepare.cos,
      prepare.sin,
      prepare.pairs,
      prepare.epsilon,
      prepare.norm_offset};
  int64_t heads = 0;
  for (const HeadStream& of : streams.streams) heads += static_cast<int64_t>(of.tokens) * of.heads;
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(attention_prepare_kernel<T>, dim3(static_cast<unsigned>(CeilDiv(heads, kWarps))),
                        dim3(kThreads), 0, stream, p, streams);
  });
}

}  // namespace switchyard::cuda
