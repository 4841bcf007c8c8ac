// Attention of single queries on tensor cores. A block takes one token, the up to 16 heads that share a key
// head and one split of the row's keys; each of its four warps takes every fourth group of 16 keys, through
// its own copies, and their sums are joined at the end.
#include "attention_tile.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kKeys = 16;
constexpr int kHeads = 16;
constexpr int kStages = 2;

template <int kDim>
constexpr int kTileElements = kKeys * kRowPitch<kDim>;
template <int kDim>
constexpr int kSharedBytes = kWarps * kStages * 2 * kTileElements<kDim> * 2;

// Fragments of the block's heads, rows of which lie in the workspace.
template <typename T, int kDim>
class HeadQueries {
 public:
  __device__ HeadQueries(const T* q, int heads, int pitch) {
    const int lane = threadIdx.x % kWarpSize;
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i % 2 * 8;
        const int d = step * 16 + i / 2 * 8 + lane % 4 * 2;
        const bool valid = row < heads && d < pitch;
        words_[step][i] = valid ? *reinterpret_cast<const uint32_t*>(q + row * pitch + d) : 0u;
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
  KeyRange keys;
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
  const RowSpan& span = block.query.span;
  block.keys = SplitOf(p, KeysOfTile(p, span, block.query.token - span.first), block.split);
  return block;
}

// One warp's part of the block's keys.
template <typename T, int kDim, typename Warp>
__device__ void AttendWarp(const AttentionParams& p, const DecodeBlock& block, T* shared, Warp* warp) {
  const int lane = threadIdx.x % kWarpSize;
  const int warp_index = threadIdx.x / kWarpSize;
  const int64_t head_row = static_cast<int64_t>(block.query.token) * p.heads + block.head;
  const HeadQueries<T, kDim> queries(static_cast<const T*>(p.q) + head_row * p.q_pitch, block.heads,
                                     p.q_pitch);
  const auto load = [&](int step, int stage) {
    const int key = block.keys.begin + (step * kWarps + warp_index) * kKeys;
    if (key < block.keys.end) {
      T* to = shared + stage * 2 * kTileElements<kDim>;
      LoadKeys<T, kDim, kKeys, kWarpSize, 4>(p, block.query.span.row, block.kv_head, key, block.keys.end, to,
                                             to + kTileElements<kDim>, lane);
    }
    CopyAsyncCommit();
  };
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) load(stage, stage);
  int reading = 0;
  for (int step = 0;; ++step) {
    const int key = block.keys.begin + (step * kWarps + warp_index) * kKeys;
    if (key >= block.keys.end) break;
    CopyAsyncWait<kStages - 2>();
    __syncwarp();  // this step's stage has arrived, and all lanes are done with the one before
    load(step + kStages - 1, reading == 0 ? kStages - 1 : reading - 1);
    const T* stage = shared + reading * 2 * kTileElements<kDim>;
    warp->Score(queries, stage);
    if (key + kKeys > block.keys.end || !IsVisible(p, block.query.position, key)) {
      warp->Mask([&](int, int column) {
        return key + column < block.keys.end && IsVisible(p, block.query.position, key + column);
      });
    }
    warp->Softmax(p.scale);
    warp->Accumulate(stage + kTileElements<kDim>);
    reading = reading + 1 == kStages ? 0 : reading + 1;
  }
  CopyAsyncWait<0>();
}

// Every warp's sums [kHeads, kDim] and stats [kHeads], in shared memory.
template <int kDim>
struct SharedSums {
  float* sums;
  SplitStats* stats;
  __device__ explicit SharedSums(unsigned char* shared)
      : sums(reinterpret_cast<float*>(shared)),
        stats(reinterpret_cast<SplitStats*>(sums + kWarps * kHeads * kDim)) {}

  template <typename Warp>
  __device__ void Store(const Warp& warp) const {
    const int lane = threadIdx.x % kWarpSize;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = threadIdx.x / kWarpSize * kHeads + half * 8 + lane / 4;
#pragma unroll
      for (int s = 0; s < kDim / 8; ++s) {
        *reinterpret_cast<Pack<float, 2>*>(sums + row * kDim + s * 8 + lane % 4 * 2) =
            warp.Sums(0, half, s, 1.0f);
      }
      const float total = warp.Total(0, half);
      if (lane % 4 == 0) stats[row] = {warp.Largest(0, half), total};
    }
  }
};

// Joins the warps' sums of one head, and writes dimension d of the result.
template <int kDim>
__device__ void JoinWarps(const AttentionParams& p, const DecodeBlock& block, const SharedSums<kDim>& shared,
                          int head, int d) {
  float largest = MinusInfinity();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, shared.stats[w * kHeads + head].largest);
  const float base = largest == MinusInfinity() ? 0.0f : largest;
  float sum = 0.0f;
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const SplitStats stats = shared.stats[w * kHeads + head];
    const float weight = Exp2(stats.largest - base);
    sum = fmaf(weight, shared.sums[(w * kHeads + head) * kDim + d], sum);
    total = fmaf(weight, stats.total, total);
  }
  if (p.split_sums == nullptr) {
    const int64_t to = static_cast<int64_t>(block.query.token) * p.heads + block.head + head;
    p.out[to * p.head_dim + d] = total > 0.0f ? sum / total : 0.0f;
    return;
  }
  const int64_t row = static_cast<int64_t>(block.slot) * p.heads + block.head + head;
  p.split_sums[(row * p.splits + block.split) * p.head_dim + d] = sum;
  if (d == 0) p.split_stats[row * p.splits + block.split] = {largest, total};
}

template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads)
    attention_decode_kernel(const __grid_constant__ AttentionParams p, int tiles) {
  static_assert(kWarps * kHeads * (kDim * sizeof(float) + sizeof(SplitStats)) <= kSharedBytes<kDim>,
                "the warps' sums take the copies' place");
  const DecodeBlock block = LocateBlock(p, tiles);
  if (!block.query.chosen) return;
  if (block.keys.begin == block.keys.end && p.split_sums != nullptr) return;
  WarpAttention<T, kDim, 1, kKeys> warp;
  T* copies =
      reinterpret_cast<T*>(SharedMemory()) + threadIdx.x / kWarpSize * (kStages * 2 * kTileElements<kDim>);
  AttendWarp<T, kDim>(p, block, copies, &warp);
  __syncthreads();  // every warp is done with its copies
  const SharedSums<kDim> shared(SharedMemory());
  shared.Store(warp);
  __syncthreads();
  for (int i = threadIdx.x; i < block.heads * p.head_dim; i += kThreads) {
    JoinWarps<kDim>(p, block, shared, i / p.head_dim, i % p.head_dim);
  }
}

template <typename T, int kDim>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  const int tiles = static_cast<int>(CeilDiv(p.heads / p.kv_heads, kHeads));
  const int64_t blocks = static_cast<int64_t>(p.slots) * p.kv_heads * tiles;
  if (blocks > kMaxGridY) return cudaErrorInvalidValue;
  return LaunchKernel(attention_decode_kernel<T, kDim>,
                      dim3(static_cast<unsigned>(p.splits), static_cast<unsigned>(blocks)), dim3(kThreads),
                      static_cast<size_t>(kSharedBytes<kDim>), stream, p, tiles);
}

template <typename T>
cudaError_t Launch(const AttentionParams& p, cudaStream_t stream) {
  return DispatchHeadDim(p.head_dim, [&](auto dim) { return Launch<T, decltype(dim)::value>(p, stream); });
}

}  // namespace

cudaError_t LaunchDecodeTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream) {
  return dtype == DType::kBFloat16 ? Launch<__nv_bfloat16>(params, stream) : Launch<__half>(params, stream);
}

}  // namespace switchyard::cuda
