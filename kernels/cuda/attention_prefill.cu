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
constexpr int kWideBlocks = 256;  // blocks of 128 queries are used when there are at least so many

template <int kGroups>
constexpr int kQueries = kWarps * kGroups * 16;

template <int kDim, int kGroups>
constexpr int kSharedElements = (kQueries<kGroups> + kStages * 2 * kKeys) * kRowPitch<kDim>;

// What a block works on.
template <typename T>
struct PrefillBlock {
  const T* q;
  const T* keys;
  const T* values;
  float* out;  // of the first query
  int queries;
  int position;  // of the first query
  KeyRange range;
};

template <typename T>
__device__ PrefillBlock<T> LocateBlock(const AttentionParams& p, int filled, int tile, int tile_queries) {
  const int head = blockIdx.y % p.heads;
  const int row = blockIdx.y / p.heads;
  const int query = tile * tile_queries;
  const int64_t q_row = (static_cast<int64_t>(row) * p.heads + head) * p.tokens + query;
  const int64_t key_row =
      (static_cast<int64_t>(row) * p.kv_heads + head / (p.heads / p.kv_heads)) * p.key_rows;
  PrefillBlock<T> block;
  block.q = static_cast<const T*>(p.q) + q_row * p.q_pitch;
  block.keys = static_cast<const T*>(p.keys) + key_row * p.key_pitch;
  block.values = static_cast<const T*>(p.values) + key_row * p.key_pitch;
  block.out = p.out + ((static_cast<int64_t>(row) * p.tokens + query) * p.heads + head) * p.head_dim;
  block.queries = Min(tile_queries, p.tokens - query);
  block.position = p.start + query;
  block.range = VisibleKeys(p, filled, block.position, block.position + block.queries - 1);
  return block;
}

template <typename Warp, int kGroups, typename T>
__device__ void StoreQueries(const AttentionParams& p, const PrefillBlock<T>& block, const Warp& warp,
                             int first) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float factor = 1.0f / warp.Total(g, half);
      const int query = first + g * 16 + half * 8 + lane / 4;
      float* to = block.out + static_cast<int64_t>(query) * p.heads * p.head_dim;
#pragma unroll
      for (int s = 0; s < Warp::kDimSubtiles; ++s) {
        const int d = s * 8 + lane % 4 * 2;
        if (query < block.queries && d < p.head_dim) {
          *reinterpret_cast<Pack<float, 2>*>(to + d) = warp.Sums(g, half, s, factor);
        }
      }
    }
  }
}

template <typename T, int kDim, int kGroups>
__global__ void __launch_bounds__(kThreads)
    attention_prefill_kernel(const __grid_constant__ AttentionParams p, int filled, int tiles) {
  using Warp = WarpAttention<T, kDim, kGroups, kKeys>;
  T* queries = reinterpret_cast<T*>(SharedMemory());
  T* stages = queries + kQueries<kGroups> * kRowPitch<kDim>;
  // The last queries see the most keys: they go first, so that the load evens out.
  const int tile = tiles - 1 - static_cast<int>(blockIdx.x);
  const PrefillBlock<T> block = LocateBlock<T>(p, filled, tile, kQueries<kGroups>);
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
  StoreQueries<Warp, kGroups>(p, block, warp, first);
}

template <typename T, int kDim, int kGroups>
cudaError_t Launch(const AttentionParams& p, int filled, cudaStream_t stream) {
  const int tiles = static_cast<int>(CeilDiv(p.tokens, kQueries<kGroups>));
  const int64_t heads = static_cast<int64_t>(p.batch) * p.heads;
  if (heads > kMaxGridY) return cudaErrorInvalidValue;
  return LaunchKernel(attention_prefill_kernel<T, kDim, kGroups>,
                      dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(heads)), dim3(kThreads),
                      kSharedElements<kDim, kGroups> * sizeof(T), stream, p, filled, tiles);
}

template <typename T>
cudaError_t Launch(const AttentionParams& p, int filled, cudaStream_t stream) {
  const int64_t blocks = static_cast<int64_t>(p.batch) * p.heads * CeilDiv(p.tokens, kQueries<2>);
  const bool wide = blocks >= kWideBlocks;
  if (p.head_dim <= 64)
    return wide ? Launch<T, 64, 2>(p, filled, stream) : Launch<T, 64, 1>(p, filled, stream);
  if (p.head_dim <= 80)
    return wide ? Launch<T, 80, 2>(p, filled, stream) : Launch<T, 80, 1>(p, filled, stream);
  return wide ? Launch<T, 128, 2>(p, filled, stream) : Launch<T, 128, 1>(p, filled, stream);
}

}  // namespace

cudaError_t LaunchAttentionTensorCore(const AttentionParams& params, DType dtype, int filled,
                                      cudaStream_t stream) {
  return dtype == DType::kBFloat16 ? Launch<__nv_bfloat16>(params, filled, stream)
                                   : Launch<__half>(params, filled, stream);
}

}  // namespace switchyard::cuda
