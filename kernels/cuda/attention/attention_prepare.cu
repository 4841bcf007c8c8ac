// The step before attention: norms, rotation, conversion, extending the cache.
#include <climits>

#include "attention_head.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;

// q, k or v on its way to where it is attended with.
struct HeadStream {
  HeadSource source;
  bool kept;  // keys and values: go to their rows' positions
  void* out;
  int tokens, pitch;
};

struct StreamParams {
  HeadStream streams[3];  // q, k, v
};

// Where a head of a token goes, in elements; -1 for nowhere.
__device__ int64_t PlaceOf(const AttentionParams& p, const HeadStream& stream, int token, int head) {
  if (!stream.kept) return (static_cast<int64_t>(token) * stream.source.heads + head) * stream.pitch;
  if (p.row_starts == nullptr) return KeyOffset(p, token / p.row_keys, head, token % p.row_keys);
  const RowSpan span = SpanOfToken(p, token);
  const int index = token - span.first;
  if (span.keys == 0 || index < 0 || index >= span.tokens) return -1;
  return KeyOffset(p, span.row, head, span.past + index);
}

// One warp prepares one head of one token; `index` counts a stream's [tokens, heads]. Its place is looked up
// while the head is on its way.
template <typename T, int kPerLane, int kWide>
__device__ void PrepareHead(const AttentionParams& p, const HeadStream& stream, int index) {
  const int head = index % stream.source.heads;
  const int token = index / stream.source.heads;
  WarpHead<T, kPerLane, kWide> values;
  values.Load(p, stream.source, token, head);
  const int64_t place = PlaceOf(p, stream, token, head);
  T* to = static_cast<T*>(stream.out) + place;
  values.Finish(p, stream.source, [&](int d, const Pack<T, kWide>& pack) {
    if (place >= 0 && d < stream.pitch) *reinterpret_cast<Pack<T, kWide>*>(to + d) = pack;
  });
}

template <typename T, int kPerLane, int kWide>
__global__ void __launch_bounds__(kThreads)
    attention_prepare_kernel(const __grid_constant__ AttentionParams p,
                             const __grid_constant__ StreamParams s) {
  WaitForPrevious();
  int index = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarpSize);
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const HeadStream& stream = s.streams[i];
    const int count = stream.tokens * stream.source.heads;
    if (index >= 0 && index < count) PrepareHead<T, kPerLane, kWide>(p, stream, index);
    index -= count;
  }
}

template <typename T, int kPerLane, int kWide>
cudaError_t Launch(const AttentionParams& p, const StreamParams& streams, cudaStream_t stream) {
  int64_t heads = 0;
  for (const HeadStream& of : streams.streams) heads += static_cast<int64_t>(of.tokens) * of.source.heads;
  if (heads > INT_MAX - kWarps) return cudaErrorInvalidValue;
  return LaunchDependentKernel(attention_prepare_kernel<T, kPerLane, kWide>,
                               dim3(static_cast<unsigned>(CeilDiv(heads, kWarps))), dim3(kThreads), 0, stream,
                               p, streams);
}

}  // namespace

cudaError_t LaunchAttentionPrepare(const AttentionParams& p, DType dtype, cudaStream_t stream) {
  void* q = const_cast<void*>(p.q);
  void* keys = const_cast<void*>(p.keys);
  void* values = const_cast<void*>(p.values);
  const int key_tokens = p.inputs.k == nullptr ? 0 : p.inputs.key_tokens;
  const StreamParams streams = {{{QuerySource(p), false, q, p.tokens, p.q_pitch},
                                 {KeySource(p), true, keys, key_tokens, p.key_pitch},
                                 {ValueSource(p), true, values, p.inputs.key_tokens, p.key_pitch}}};
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kPerLane = kMaxHeadDim / kWarpSize;
    const bool wide = AllowsWideHeads(p);
    if (p.q_pitch <= kMaxHeadDim / 2) {
      return wide ? Launch<T, kPerLane / 2, kWideHead>(p, streams, stream)
                  : Launch<T, kPerLane / 2, 1>(p, streams, stream);
    }
    return wide ? Launch<T, kPerLane, kWideHead>(p, streams, stream)
                : Launch<T, kPerLane, 1>(p, streams, stream);
  });
}

}  // namespace switchyard::cuda
