// Attention of several queries on tensor cores: a block takes 64 or 128 queries of a head and walks over the
// keys they see, 32 at a time. Each of its four warps has its own queries and shares keys and values, the
// next of which arrive while the present ones are worked on.
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
template <typename T>
struct PrefillBlock {
  const T* q;
  const T* keys;
  const T* values;
  int row, head, split;
  int query;     // the first
  int queries;   // how many
  int position;  // of the first
  KeyRange range;
};

template <typename T>
__device__ PrefillBlock<T> LocateBlock(const AttentionParams& p, int tile, int split) {
  PrefillBlock<T> block;
  block.head = blockIdx.y % p.heads;
  block.row = blockIdx.y / p.heads;
  block.split = split;
  block.query = tile * p.tile_queries;
  block.queries = Min(p.tile_queries, p.tokens - block.query);
  block.position = p.start + block.query;
  block.range = SplitOf(p, KeysOfTile(p, block.row, tile), split);
  const int64_t q_row = (static_cast<int64_t>(block.row) * p.heads + block.head) * p.tokens + block.query;
  const int kv_head = block.head / (p.heads / p.kv_heads);
  const int64_t key_row = (static_cast<int64_t>(block.row) * p.kv_heads + kv_head) * p.key_rows;
  block.q = static_cast<const T*>(p.q) + q_row * p.q_pitch;
  block.keys = static_cast<const T*>(p.keys) + key_row * p.key_pitch;
  block.values = static_cast<const T*>(p.values) + key_row * p.key_pitch;
  return block;
}

// Writes one row of a warp's results, or its share of them, to where it belongs.
template <typename Warp, typename T>
__device__ void StoreQuery(const AttentionParams& p, const PrefillBlock<T>& block, const Warp& warp,
                           int group, int half, int query) {
  const int lane = threadIdx.x % kWarpSize;
  const float total = warp.Total(group, half);
  if (query >= block.queries) return;
  const int64_t row = static_cast<int64_t>(block.row) * p.tokens + block.query + query;
  float* to = p.out + (row * p.heads + block.head) * p.head_dim;
  float factor = 1.0f / total;
  if (p.split_sums != nullptr) {
    const int64_t head = static_cast<int64_t>(block.row) * p.heads + block.head;
    const int64_t split = (head * p.tokens + block.query + query) * p.splits + block.split;
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
    attention_prefill_kernel(const __grid_constant__ AttentionParams p, int tiles) {
  using Warp = WarpAttention<T, kDim, kGroups, kKeys>;
  T* queries = reinterpret_cast<T*>(SharedMemory());
  T* stages = queries + kQueries<kGroups> * kRowPitch<kDim>;
  // The last queries see the most keys: they go first, so that the load evens out.
  const int tile = tiles - 1 - static_cast<int>(blockIdx.x) / p.splits;
  const PrefillBlock<T> block = LocateBlock<T>(p, tile, static_cast<int>(blockIdx.x) % p.splits);
  if (block.range.begin == block.range.end) return;  // of the splits, only the first have keys
  const int end = block.range.end;
  const int first = static_cast<int>(threadIdx.x) / kWarpSize * kGroups * 16;  // the warp's first query
  const int position = block.position + first;
  const SharedQueries<T, kDim> of_warp = {queries + first * kRowPitch<kDim>};

  constexpr int kTile = kKeys * kRowPitch<kDim>;
  const auto load = [&](int key, T* to) {
    if (key < end) {
      const int64_t offset = static_cast<int64_t>(key) * p.key_pitch;
      LoadRows<T, kDim, kKeys, kThreads, 1>(to, block.keys + offset, end - key, p.key_pitch, threadIdx.x);
      LoadRows<T, kDim, kKeys, kThreads, 1>(to + kTile, block.values + offset, end - key, p.key_pitch,
                                            threadIdx.x);
    }
    CopyAsyncCommit();
  };
  LoadRows<T, kDim, kQueries<kGroups>, kThreads, 1>(queries, block.q, block.queries, p.q_pitch, threadIdx.x);
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
  const int tiles = static_cast<int>(CeilDiv(p.tokens, kQueries<kGroups>));
  const int64_t heads = static_cast<int64_t>(p.batch) * p.heads;
  if (heads > kMaxGridY) return cudaErrorInvalidValue;
  return LaunchKernel(attention_prefill_kernel<T, kDim, kGroups>,
                      dim3(static_cast<unsigned>(tiles * p.splits), static_cast<unsigned>(heads)),
                      dim3(kThreads), kSharedElements<kDim, kGroups> * sizeof(T), stream, p, tiles);
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
