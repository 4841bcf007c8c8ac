// Attention of single queries on tensor cores, from projections to results. A block takes one token, the up
// to 16 heads that share a key head and one split of the row's keys. While the first keys arrive, which are
// asked for before the projections are there, it prepares its queries, and, where the split ends with the
// token's own key and value, these: nobody has to write them to the cache before. Each of its four warps
// takes every fourth group of 16 keys, through its own copies, and their sums are joined; the last of a
// token's blocks to finish joins the splits.
#include "attention_head.cuh"
#include "attention_join.cuh"
#include "attention_tile.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kKeys = 16;
constexpr int kHeads = kDecodeHeads;
constexpr int kMostStages = 3;

// What lies in shared memory, in bytes from its beginning. Sums and weights take the place of the copies.
template <int kDim, int kStages>
struct Layout {
  static constexpr int kTile = kKeys * kRowPitch<kDim>;  // elements
  static constexpr int kWarpCopies = kStages * 2 * kTile;
  static constexpr int kQueries = kWarps * kWarpCopies * 2;
  static constexpr int kOwn = kQueries + kHeads * kRowPitch<kDim> * 2;  // the token's key and value
  static constexpr int kFlag = kOwn + 2 * kDim * 2;
  static constexpr int kBytes = kFlag + 16;
  static constexpr int kSumPitch = kDim + 8;  // floats, so that eight rows spread over the banks
  static constexpr int kStats = kWarps * kHeads * kSumPitch * 4;
  static_assert(kStats + kWarps * kHeads * static_cast<int>(sizeof(SplitStats)) <= kQueries);
  static_assert(kHeads * kMaxDecodeSplits * 4 <= kQueries);
};

// Fragments of the block's heads in shared memory.
template <typename T, int kDim>
class HeadQueries {
 public:
  __device__ HeadQueries(const T* rows, int heads) {
    const int lane = threadIdx.x % kWarpSize;
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i % 2 * 8;
        const int d = step * 16 + i / 2 * 8 + lane % 4 * 2;
        words_[step][i] =
            row < heads ? *reinterpret_cast<const uint32_t*>(rows + row * kRowPitch<kDim> + d) : 0u;
      }
    }
  }
  __device__ void Load(int, int step, uint32_t (&out)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = words_[step][i];
  }

 private:
  uint32_t words_[kDim / 16][4];
};

// What a block works on.
struct DecodeBlock {
  Query query;
  int slot, kv_head, split;
  int head, heads;  // the first query head, and how many
  bool keeps;       // of the blocks with the same keys, the one that writes to the cache
  int splits;       // that have keys
  KeyRange keys;

  // Whether the token's own key is the last of this split's.
  __device__ bool HasOwnKey() const { return keys.begin < keys.end && keys.end == query.position + 1; }
};

__device__ DecodeBlock LocateBlock(const AttentionParams& p, int tiles) {
  const int group = p.heads / p.kv_heads;
  const int tile = blockIdx.y % tiles;
  DecodeBlock block;
  block.split = blockIdx.x;
  block.kv_head = blockIdx.y / tiles % p.kv_heads;
  block.slot = blockIdx.y / tiles / p.kv_heads;
  block.query = QueryOf(p, block.slot);
  block.head = block.kv_head * group + tile * kHeads;
  block.heads = Min(kHeads, group - tile * kHeads);
  block.keeps = tile == 0;
  const RowSpan& span = block.query.span;
  const KeyRange all = KeysOfTile(p, span, block.query.token - span.first);
  block.splits = SplitsWithKeys(p, all);
  block.keys = SplitOf(p, all, block.split);
  return block;
}

// Prepares the block's queries in shared memory, and the token's own key and value, which also go to the
// cache. Where that has no place for them they count as zeros.
template <typename T, int kDim>
__device__ void PrepareHeads(const AttentionParams& p, const DecodeBlock& block, T* queries, T* own) {
  constexpr int kBatch = 3;  // heads of a warp under way
  constexpr int kPerLane = (kDim + kWarpSize - 1) / kWarpSize;
  const int jobs = block.heads + (block.HasOwnKey() ? 2 : 0);
  const int64_t place =
      block.HasOwnKey() ? KeyOffset(p, block.query.span.row, block.kv_head, block.query.position) : -1;
  for (int first = threadIdx.x / kWarpSize; first < jobs; first += kBatch * kWarps) {
    WarpHead<T, kPerLane> heads[kBatch];
    const auto each = [&](const auto& body) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int job = first + i * kWarps;
        if (job >= jobs) continue;
        const HeadSource source = job < block.heads    ? QuerySource(p)
                                  : job == block.heads ? KeySource(p)
                                                       : ValueSource(p);
        body(heads[i], source, job);
      }
    };
    each([&](auto& head, const HeadSource& source, int job) {
      head.Load(p, source, block.query.token, job < block.heads ? block.head + job : block.kv_head);
    });
    each([&](const auto& head, const HeadSource& source, int job) {
      const bool query = job < block.heads;
      const bool key = job == block.heads;
      T* to = query ? queries + job * kRowPitch<kDim> : own + (key ? 0 : kDim);
      T* kept = static_cast<T*>(const_cast<void*>(key ? p.keys : p.values)) + place;
      const bool keeps = !query && block.keeps && place >= 0;
      const bool counts = query || place >= 0;
      head.Finish(p, source, [&](int d, Pack<T, 1> value) {
        const T rounded = counts ? value.values[0] : FromFloat<T>(0.0f);
        if (d < kDim) to[d] = rounded;
        if (keeps && d < p.key_pitch) kept[d] = rounded;
      });
    });
  }
}

// Puts the keys and values of new tokens to their rows of a stage, whose first key is `key`, as they are not
// in the cache yet: the token's own, and those of tokens before it in its row, which are rare where this
// kernel is used.
template <typename T, int kDim>
__device__ void FillNewKeys(const AttentionParams& p, const DecodeBlock& block, const T* own, int key,
                            T* keys, T* values) {
  constexpr int kPerLane = (kDim + kWarpSize - 1) / kWarpSize;
  const RowSpan& span = block.query.span;
  const int end = Min(key + kKeys, block.keys.end);
  for (int position = Max(key, span.past); position < end; ++position) {
    T* to_key = keys + (position - key) * kRowPitch<kDim>;
    T* to_value = values + (position - key) * kRowPitch<kDim>;
    if (position == block.query.position) {
      for (int d = threadIdx.x % kWarpSize; d < kDim; d += kWarpSize) {
        to_key[d] = own[d];
        to_value[d] = own[kDim + d];
      }
    } else if (KeyOffset(p, span.row, block.kv_head, position) >= 0) {
      const int token = span.first + position - span.past;
      const auto prepare = [&](const HeadSource& source, T* to) {
        WarpHead<T, kPerLane> head;
        head.Load(p, source, token, block.kv_head);
        head.Finish(p, source, [&](int d, Pack<T, 1> value) {
          if (d < kDim) to[d] = value.values[0];
        });
      };
      prepare(KeySource(p), to_key);
      prepare(ValueSource(p), to_value);
    }
  }
  __syncwarp();
}

// One warp's part of the block's keys; `copies` is its own.
template <typename T, int kDim, int kStages, typename Warp>
__device__ void AttendWarp(const AttentionParams& p, const DecodeBlock& block, T* copies, T* queries, T* own,
                           Warp* warp) {
  constexpr int kTile = Layout<kDim, kStages>::kTile;
  const int lane = threadIdx.x % kWarpSize;
  const int warp_index = threadIdx.x / kWarpSize;
  const RowSpan& span = block.query.span;
  const int cached = Min(block.keys.end, span.past);
  const auto load = [&](int step, int stage) {
    const int key = block.keys.begin + (step * kWarps + warp_index) * kKeys;
    if (key < block.keys.end) {
      T* to = copies + stage * 2 * kTile;
      LoadKeys<T, kDim, kKeys, kWarpSize, 4>(p, span.row, block.kv_head, key, cached, to, to + kTile, lane);
    }
    CopyAsyncCommit();
  };
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) load(stage, stage);
  WaitForPrevious();
  PrepareHeads<T, kDim>(p, block, queries, own);
  __syncthreads();
  const HeadQueries<T, kDim> fragments(queries, block.heads);
  int reading = 0;
  for (int step = 0;; ++step) {
    const int key = block.keys.begin + (step * kWarps + warp_index) * kKeys;
    if (key >= block.keys.end) break;
    CopyAsyncWait<kStages - 2>();
    __syncwarp();  // this step's stage has arrived, and all lanes are done with the one before
    load(step + kStages - 1, reading == 0 ? kStages - 1 : reading - 1);
    T* stage = copies + reading * 2 * kTile;
    if (key + kKeys > span.past) FillNewKeys<T, kDim>(p, block, own, key, stage, stage + kTile);
    warp->Score(fragments, stage);
    if (key + kKeys > block.keys.end || !IsVisible(p, block.query.position, key)) {
      warp->Mask([&](int) { return VisibleKeys(p, block.query.position, block.keys.end, key); });
    }
    warp->Softmax(p.scale);
    warp->Accumulate(stage + kTile);
    reading = reading + 1 == kStages ? 0 : reading + 1;
  }
  CopyAsyncWait<0>();
}

// Every warp's sums [kHeads, kSumPitch] and stats [kHeads], in shared memory.
template <typename Layout, int kDim>
struct SharedSums {
  float* sums;
  SplitStats* stats;
  __device__ explicit SharedSums(unsigned char* shared)
      : sums(reinterpret_cast<float*>(shared)),
        stats(reinterpret_cast<SplitStats*>(shared + Layout::kStats)) {}

  template <typename Warp>
  __device__ void Store(const Warp& warp, int heads) const {
    const int lane = threadIdx.x % kWarpSize;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = warp.Total(0, half);
      if (half * 8 >= heads) continue;
      const int row = threadIdx.x / kWarpSize * kHeads + half * 8 + lane / 4;
#pragma unroll
      for (int s = 0; s < kDim / 8; ++s) {
        *reinterpret_cast<Pack<float, 2>*>(sums + row * Layout::kSumPitch + s * 8 + lane % 4 * 2) =
            warp.Sums(0, half, s, 1.0f);
      }
      if (lane % 4 == 0) stats[row] = {warp.Largest(0, half), total};
    }
  }

  // Joins the warps' sums of a head's dimensions d to d + 3, and their stats.
  __device__ Pack<float, 4> Join(int head, int d, SplitStats* joined) const {
    float largest = MinusInfinity();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, stats[w * kHeads + head].largest);
    const float base = largest == MinusInfinity() ? 0.0f : largest;
    Pack<float, 4> sum = {};
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const int row = w * kHeads + head;
      const float weight = Exp2(stats[row].largest - base);
      const Pack<float, 4> part = LoadPack<float, 4>(sums + row * Layout::kSumPitch + d);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum.values[i] = fmaf(weight, part.values[i], sum.values[i]);
      total = fmaf(weight, stats[row].total, total);
    }
    *joined = {largest, total};
    return sum;
  }
};

// Writes what a block found: results, or its split's share of them.
template <typename Sums>
__device__ void StoreBlock(const AttentionParams& p, const DecodeBlock& block, const Sums& shared) {
  const int chunks = p.head_dim / 4;
  for (int i = threadIdx.x; i < block.heads * chunks; i += kThreads) {
    const int head = i / chunks;
    const int d = i % chunks * 4;
    SplitStats stats;
    Pack<float, 4> sum = shared.Join(head, d, &stats);
    float* to;
    if (block.splits == 1) {
      const float factor = stats.total > 0.0f ? 1.0f / stats.total : 0.0f;
#pragma unroll
      for (float& value : sum.values) value *= factor;
      to = p.out + (static_cast<int64_t>(block.query.token) * p.heads + block.head + head) * p.head_dim;
    } else {
      const int64_t row = static_cast<int64_t>(block.slot) * p.heads + block.head + head;
      const int64_t split = row * p.splits + block.split;
      if (d == 0) p.split_stats[split] = stats;
      to = p.split_sums + split * p.head_dim;
    }
    *reinterpret_cast<Pack<float, 4>*>(to + d) = sum;
  }
}

// Zeros for a token that sees no key.
__device__ void StoreNothing(const AttentionParams& p, const DecodeBlock& block) {
  float* to = p.out + (static_cast<int64_t>(block.query.token) * p.heads + block.head) * p.head_dim;
  for (int i = threadIdx.x; i < block.heads * p.head_dim; i += kThreads) to[i] = 0.0f;
}

template <typename T, int kDim, int kStages>
__global__ void __launch_bounds__(kThreads, 2)
    attention_decode_kernel(const __grid_constant__ AttentionParams p, int tiles) {
  using L = Layout<kDim, kStages>;
  const DecodeBlock block = LocateBlock(p, tiles);
  if (!block.query.chosen || block.keys.begin == block.keys.end) {
    WaitForPrevious();
    if (block.query.chosen && block.splits == 0 && block.split == 0) StoreNothing(p, block);
    return;
  }
  WarpAttention<T, kDim, 1, kKeys> warp;
  T* copies = reinterpret_cast<T*>(SharedMemory()) + threadIdx.x / kWarpSize * L::kWarpCopies;
  AttendWarp<T, kDim, kStages>(p, block, copies, reinterpret_cast<T*>(SharedMemory() + L::kQueries),
                               reinterpret_cast<T*>(SharedMemory() + L::kOwn), &warp);
  __syncthreads();  // every warp is done with its copies
  const SharedSums<L, kDim> shared(SharedMemory());
  shared.Store(warp, block.heads);
  __syncthreads();
  StoreBlock(p, block, shared);
  if (block.splits == 1) return;
  int* flag = reinterpret_cast<int*>(SharedMemory() + L::kFlag);
  if (!IsLastOf(block.splits, p.counters + blockIdx.y, flag)) return;
  const JoinedHeads joined = {
      static_cast<int64_t>(block.slot) * p.heads + block.head, block.heads, block.splits,
      p.out + (static_cast<int64_t>(block.query.token) * p.heads + block.head) * p.head_dim};
  JoinSplits<kWarps>(p, joined, reinterpret_cast<float*>(SharedMemory()));
}

template <typename T, int kDim, int kStages>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  const int tiles = static_cast<int>(CeilDiv(p.heads / p.kv_heads, kHeads));
  const int64_t blocks = static_cast<int64_t>(p.slots) * p.kv_heads * tiles;
  if (blocks > kMaxGridY || (p.splits > 1 && blocks > kAttentionCounters)) return cudaErrorInvalidValue;
  return LaunchDependentKernel(attention_decode_kernel<T, kDim, kStages>,
                               dim3(static_cast<unsigned>(p.splits), static_cast<unsigned>(blocks)),
                               dim3(kThreads), static_cast<size_t>(Layout<kDim, kStages>::kBytes), stream, p,
                               tiles);
}

template <typename T>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  int device = 0;
  int bytes = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return DispatchHeadDim(p.head_dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    return bytes >= Layout<kDim, kMostStages>::kBytes ? Launch<T, kDim, kMostStages>(p, stream)
                                                      : Launch<T, kDim, kMostStages - 1>(p, stream);
  });
}

}  // namespace

cudaError_t LaunchDecodeTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream) {
  return dtype == DType::kBFloat16 ? Launch<__nv_bfloat16>(params, stream) : Launch<__half>(params, stream);
}

}  // namespace switchyard::cuda
