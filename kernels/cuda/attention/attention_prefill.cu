// Attention of several queries on tensor cores: a block takes 64 or 128 queries of a row and head and walks
// over the keys they see, 32 at a time. Each of its four warps has its own queries and shares keys and
// values, the next of which arrive while the present ones are worked on.
#include "attention_tile.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kKeys = 32;
constexpr int kStages = 2;

template <int kGroups>
constexpr int kQueries = kWarps * kGroups * 16;
static_assert(kQueries<1> == kNarrowTile && kQueries<2> == kWideTile);

template <int kDim, int kGroups>
constexpr int kSharedElements = (kQueries<kGroups> + kStages * 2 * kKeys) * kRowPitch<kDim>;

// What a block works on.
struct PrefillBlock {
  int row, head, kv_head, split;
  int token;     // the first, of the pass
  int queries;   // how many
  int position;  // of the first
  KeyRange range;
};

__device__ PrefillBlock LocateBlock(const AttentionParams& p, const QueryTile& tile, int split) {
  const RowSpan& span = tile.span;
  const int first = tile.index * p.tile_queries;
  PrefillBlock block;
  block.row = span.row;
  block.head = blockIdx.y;
  block.kv_head = block.head / (p.heads / p.kv_heads);
  block.split = split;
  block.token = span.first + first;
  block.queries = Min(p.tile_queries, span.tokens - first);
  block.position = span.past + first;
  block.range = SplitOf(p, KeysOfTile(p, span, tile.index), split);
  return block;
}

// Where a query's results go, or its share of them.
__device__ int64_t QueryIndex(const AttentionParams& p, const PrefillBlock& block, int query) {
  return static_cast<int64_t>(block.token + query) * p.heads + block.head;
}

// Zeros for queries that see no key, unless their splits' sums are joined afterwards.
__device__ void StoreNothing(const AttentionParams& p, const PrefillBlock& block) {
  if (p.split_sums != nullptr) return;
  for (int i = threadIdx.x; i < block.queries * p.head_dim; i += kThreads) {
    p.out[QueryIndex(p, block, i / p.head_dim) * p.head_dim + i % p.head_dim] = 0.0f;
  }
}

// Writes one row of a warp's results, or its share of them, to where it belongs.
template <typename Warp>
__device__ void StoreQuery(const AttentionParams& p, const PrefillBlock& block, const Warp& warp, int group,
                           int half, int query) {
  const int lane = threadIdx.x % kWarpSize;
  const float total = warp.Total(group, half);
  if (query >= block.queries) return;
  const int64_t index = QueryIndex(p, block, query);
  float* to = p.out + index * p.head_dim;
  float factor = 1.0f / total;
  if (p.split_sums != nullptr) {
    const int64_t split = index * p.splits + block.split;
    to = p.split_sums + split * p.head_dim;
    factor = 1.0f;
    if (lane % 4 == 0) p.split_stats[split] = {warp.Largest(group, half), total};
  }
#pragma unroll
  for (int s = 0; s < Warp::kDimSubtiles; ++s) {
    const int d = s * 8 + lane % 4 * 2;
    if (d < p.head_dim) *reinterpret_cast<Pack<float, 2>*>(to + d) = warp.Sums(group, half, s, factor);
  }
}

template <typename T, int kDim, int kGroups>
__global__ void __launch_bounds__(kThreads)
    attention_prefill_kernel(const __grid_constant__ AttentionParams p, int slots) {
  using Warp = WarpAttention<T, kDim, kGroups, kKeys>;
  T* queries = reinterpret_cast<T*>(SharedMemory());
  T* stages = queries + kQueries<kGroups> * kRowPitch<kDim>;
  // The last queries see the most keys: they go first, so that the load evens out.
  const int slot = slots - 1 - static_cast<int>(blockIdx.x) / p.splits;
  const QueryTile tile = TileOf(p, slot);
  if (!tile.chosen) return;
  const PrefillBlock block = LocateBlock(p, tile, static_cast<int>(blockIdx.x) % p.splits);
  if (block.range.begin == block.range.end) return StoreNothing(p, block);
  const int end = block.range.end;
  const int first = static_cast<int>(threadIdx.x) / kWarpSize * kGroups * 16;  // the warp's first query
  const int position = block.position + first;
  const SharedQueries<T, kDim> of_warp = {queries + first * kRowPitch<kDim>};

  constexpr int kTile = kKeys * kRowPitch<kDim>;
  const auto load = [&](int key, T* to) {
    if (key < end) {
      LoadKeys<T, kDim, kKeys, kThreads, 1>(p, block.row, block.kv_head, key, end, to, to + kTile,
                                            threadIdx.x);
    }
    CopyAsyncCommit();
  };
  LoadRows<T, kDim, kQueries<kGroups>, kThreads, 1>(
      queries, static_cast<const T*>(p.q) + QueryIndex(p, block, 0) * p.q_pitch, block.queries,
      p.heads * p.q_pitch, p.q_pitch, threadIdx.x);
  load(block.range.begin, stages);
  Warp warp;
  int reading = 0;
  for (int key = block.range.begin; key < end; key += kKeys, reading ^= 1) {
    CopyAsyncWait<0>();
    __syncthreads();  // this step's stage has arrived, and everyone is done with the one before
    load(key + kKeys, stages + (reading ^ 1) * 2 * kTile);
    // The warp has no queries, or these keys follow all of them.
    if (first >= block.queries || (p.causal && key >= position + kGroups * 16)) continue;
    const T* stage = stages + reading * 2 * kTile;
    warp.Score(of_warp, stage);
    const bool whole = key + kKeys <= end && IsVisible(p, position, key + kKeys - 1) &&
                       IsVisible(p, position + kGroups * 16 - 1, key);
    if (!whole) {
      warp.Mask([&](int row, int column) {
        return key + column < end && IsVisible(p, position + row, key + column);
      });
    }
    warp.Softmax(p.scale);
    warp.Accumulate(stage + kTile);
  }
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      StoreQuery(p, block, warp, g, half, first + g * 16 + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4);
    }
  }
}

template <typename T, int kDim, int kGroups>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  const int slots = TileSlots(p);
  if (p.heads > kMaxGridY) return cudaErrorInvalidValue;
  return LaunchKernel(attention_prefill_kernel<T, kDim, kGroups>,
                      dim3(static_cast<unsigned>(slots * p.splits), static_cast<unsigned>(p.heads)),
                      dim3(kThreads), kSharedElements<kDim, kGroups> * sizeof(T), stream, p, slots);
}

template <typename T, int kDim>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  return p.tile_queries == kWideTile ? Launch<T, kDim, 2>(p, stream) : Launch<T, kDim, 1>(p, stream);
}

template <typename T>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  return DispatchHeadDim(p.head_dim, [&](auto dim) { return Launch<T, decltype(dim)::value>(p, stream); });
}

}  // namespace

cudaError_t LaunchAttentionTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream) {
  return dtype == DType::kBFloat16 ? Launch<__nv_bfloat16>(params, stream) : Launch<__half>(params, stream);
}

}  // namespace switchyard::cuda
