// Attention of several queries on tensor cores: a block takes 64 or 128 queries of a row and head and walks
// over the keys they see, 64 at a time. Each of its four warps has its own queries and shares keys and
// values. Values arrive while keys are worked on, and the next keys while values are. Where tokens are few,
// several heads that share a key head share a block too: it then has a row for every token and head.
#include <climits>

#include "attention_tile.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kKeys = 64;

template <int kGroups>
constexpr int kQueries = kWarps * kGroups * 16;
static_assert(kQueries<1> == kNarrowTile && kQueries<2> == kWideTile);

template <int kDim, int kGroups>
constexpr int kSharedElements = (kQueries<kGroups> + 2 * kKeys) * kRowPitch<kDim>;

// What a block works on.
struct PrefillBlock {
  int row, head, kv_head, split;
  int token;     // the first, of the pass
  int position;  // of the first
  int heads;     // that share the block, from head on
  int rows;      // one for each token and head; a token's heads lie side by side
  KeyRange range;
};

__device__ PrefillBlock LocateBlock(const AttentionParams& p, const QueryTile& tile, int head, int heads,
                                    int split) {
  const RowSpan& span = tile.span;
  const int first = tile.index * p.tile_queries;
  PrefillBlock block;
  block.row = span.row;
  block.head = head;
  block.kv_head = block.head / (p.heads / p.kv_heads);
  block.split = split;
  block.token = span.first + first;
  block.heads = heads;
  block.rows = Min(p.tile_queries, span.tokens - first) * heads;
  block.position = span.past + first;
  block.range = SplitOf(p, KeysOfTile(p, span, tile.index), split);
  return block;
}

// A row's place among the queries [tokens, heads], which is that of its results too.
__device__ int64_t QueryIndex(const AttentionParams& p, const PrefillBlock& block, int row) {
  return static_cast<int64_t>(block.token + row / block.heads) * p.heads + block.head + row % block.heads;
}

// Zeros for queries that see no key, unless their splits' sums are joined afterwards.
__device__ void StoreNothing(const AttentionParams& p, const PrefillBlock& block) {
  if (p.split_sums != nullptr) return;
  for (int i = threadIdx.x; i < block.rows * p.head_dim; i += kThreads) {
    p.out[QueryIndex(p, block, i / p.head_dim) * p.head_dim + i % p.head_dim] = 0.0f;
  }
}

// Writes one row of a warp's results, or its share of them, to where it belongs.
template <typename Warp>
__device__ void StoreQuery(const AttentionParams& p, const PrefillBlock& block, const Warp& warp, int group,
                           int half, int row) {
  const int lane = threadIdx.x % kWarpSize;
  const float total = warp.Total(group, half);
  if (row >= block.rows) return;
  const int64_t index = QueryIndex(p, block, row);
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

// Brings a step's keys or values to shared memory. A step's blocks are looked up in advance: every
// kKeyAlignment keys have their own, and lane i knows the i-th. A thread copies the same chunk of several
// rows, so that it keeps few addresses.
template <typename T, int kDim>
class KeyCopier {
 public:
  static constexpr int kTile = kKeys * kRowPitch<kDim>;

  __device__ KeyCopier(const AttentionParams& p, const PrefillBlock& block)
      : row_(static_cast<int>(threadIdx.x) / kChunks), end_(block.range.end) {
    const int element = static_cast<int>(threadIdx.x) % kChunks * kHeadChunk;
    to_ = row_ * kRowPitch<kDim> + element;
    from_ = row_ * p.key_pitch + element;
    if (element >= p.key_pitch) end_ = from_ = 0;
    if (row_ >= kRows) row_ = kKeyAlignment;
  }

  // The lane's share of the blocks of the keys from `key` to `end`.
  static __device__ int Find(const AttentionParams& p, const PrefillBlock& block, int key) {
    const int position = key + static_cast<int>(threadIdx.x) % kParts * kKeyAlignment;
    return position < block.range.end ? BlockOf(p, block.row, position) : -1;
  }

  // Starts to copy; what has no key becomes zeros.
  __device__ void Copy(const AttentionParams& p, const void* from, int kv_head, int key, int found,
                       T* to) const {
    to += to_;
#pragma unroll 1
    for (int part = 0; part < kParts; ++part, key += kKeyAlignment, to += kKeyAlignment * kRowPitch<kDim>) {
      const int block = __shfl_sync(kFullWarp, found, part);
      const int rows = block < 0 ? 0 : end_ - key;
      const T* first = static_cast<const T*>(from) + OffsetInBlock(p, Max(block, 0), kv_head, key) + from_;
#pragma unroll
      for (int row = 0; row < kKeyAlignment; row += kRows) {
        if (row_ + row >= kKeyAlignment) break;
        CopyAsync16(to + row * kRowPitch<kDim>, first + row * p.key_pitch, row_ + row < rows);
      }
    }
    CopyAsyncCommit();
  }

 private:
  static constexpr int kParts = kKeys / kKeyAlignment;
  static constexpr int kChunks = kDim / kHeadChunk;
  static constexpr int kRows =
      kThreads / kChunks < kKeyAlignment ? kThreads / kChunks : kKeyAlignment;  // at once

  int row_, end_;  // the thread's first row of every part; where its keys end
  int from_, to_;
};

// Brings a block's queries to shared memory; rows and elements that there are none for become zeros.
template <typename T, int kDim, int kRows>
__device__ void LoadQueries(const AttentionParams& p, const PrefillBlock& block, T* to) {
  constexpr int kChunks = kDim / kHeadChunk;
  const T* from = static_cast<const T*>(p.q);
#pragma unroll 1
  for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int element = i % kChunks * kHeadChunk;
    const bool valid = row < block.rows && element < p.q_pitch;
    CopyAsync16(to + row * kRowPitch<kDim> + element,
                valid ? from + QueryIndex(p, block, row) * p.q_pitch + element : from, valid);
  }
}

template <typename T, int kDim, int kGroups>
__global__ void __launch_bounds__(kThreads, 4 - kGroups)
    attention_prefill_kernel(const __grid_constant__ AttentionParams p, int slots) {
  using Warp = WarpAttention<T, kDim, kGroups, kKeys>;
  T* queries = reinterpret_cast<T*>(SharedMemory());
  T* keys = queries + kQueries<kGroups> * kRowPitch<kDim>;
  T* values = keys + KeyCopier<T, kDim>::kTile;
  // The last queries see the most keys: they go first, of all heads, so that the load evens out.
  const int heads = kGroups == 1 ? p.tile_heads : 1;
  const int index = static_cast<int>(blockIdx.x) / (p.heads / heads);
  const QueryTile tile = TileOf(p, slots - 1 - index / p.splits);
  if (!tile.chosen) return;
  const int head = static_cast<int>(blockIdx.x) % (p.heads / heads) * heads;
  const PrefillBlock block = LocateBlock(p, tile, head, heads, index % p.splits);
  if (block.range.begin == block.range.end) return StoreNothing(p, block);
  const int end = block.range.end;
  const int first = static_cast<int>(threadIdx.x) / kWarpSize * kGroups * 16;  // the warp's first row
  const int position = block.position + first / heads;
  const int last = block.position + (first + kGroups * 16 - 1) / heads;
  // From here on a warp only copies: its queries all come before these keys, or it has none.
  const int warp_end = first >= block.rows ? 0 : p.causal ? Min(end, last + 1) : end;
  const SharedQueries<T, kDim> of_warp = {queries + first * kRowPitch<kDim>};
  const KeyCopier<T, kDim> copier(p, block);
  // What is only needed at the end makes room for what the loop needs.
  auto* kept = reinterpret_cast<PrefillBlock*>(values + KeyCopier<T, kDim>::kTile);
  if (threadIdx.x == 0) *kept = block;

  int found = copier.Find(p, block, block.range.begin);
  LoadQueries<T, kDim, kQueries<kGroups>>(p, block, queries);
  copier.Copy(p, p.keys, block.kv_head, block.range.begin, found, keys);
  Warp warp;
  for (int key = block.range.begin; key < end; key += kKeys) {
    CopyAsyncWait<0>();
    __syncthreads();  // the keys have arrived, and everyone is done with the values before
    copier.Copy(p, p.values, block.kv_head, key, found, values);
    found = copier.Find(p, block, key + kKeys);
    if (key < warp_end) warp.Score(of_warp, keys);
    CopyAsyncWait<0>();
    __syncthreads();  // the values have arrived, and everyone is done with the keys
    if (key + kKeys < end) copier.Copy(p, p.keys, block.kv_head, key + kKeys, found, keys);
    if (key >= warp_end) continue;
    const bool whole =
        key + kKeys <= warp_end && IsVisible(p, position, key + kKeys - 1) && IsVisible(p, last, key);
    if (!whole) {
      warp.Mask(
          [&](int row) { return VisibleKeys(p, block.position + (first + row) / heads, warp_end, key); });
    }
    warp.Softmax(p.scale);
    warp.Accumulate(values);
  }
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      StoreQuery(p, *kept, warp, g, half, first + g * 16 + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4);
    }
  }
}

template <typename T, int kDim, int kGroups>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  const int slots = TileSlots(p);
  const int64_t blocks = static_cast<int64_t>(slots) * p.splits * (p.heads / p.tile_heads);
  if (blocks > INT_MAX) return cudaErrorInvalidValue;
  return LaunchKernel(attention_prefill_kernel<T, kDim, kGroups>, dim3(static_cast<unsigned>(blocks)),
                      dim3(kThreads), kSharedElements<kDim, kGroups> * sizeof(T) + sizeof(PrefillBlock),
                      stream, p, slots);
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
