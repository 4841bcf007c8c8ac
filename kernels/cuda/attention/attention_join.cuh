// Joining the splits of several heads' keys within the kernel that made them: the block that finishes last
// does it.
#pragma once
#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {

// Heads that lie side by side in split_sums and split_stats.
struct JoinedHeads {
  int64_t first;  // of [slots, heads]
  int heads;
  int count;   // splits that have keys
  float* out;  // [heads, head_dim]
};

// Whether this block is the last of `count` that come here with the same counter, which then is zero again:
// it sees what the others wrote. For all threads of a block, which share `flag`.
__device__ inline bool IsLastOf(int count, uint32_t* counter, int* flag) {
  __threadfence();  // what this thread wrote is seen by whoever sees the counter
  __syncthreads();
  if (threadIdx.x == 0) {
    const auto last = static_cast<unsigned>(count - 1);
    *flag = atomicInc(counter, last) == last ? 1 : 0;
  }
  __syncthreads();
  const bool is_last = *flag != 0;
  if (is_last) __threadfence();
  return is_last;
}

// Factors of the splits' sums: to the largest score of all, and by the total. weights: [heads,
// kMaxDecodeSplits] in shared memory.
template <int kWarps>
__device__ void WeighSplits(const AttentionParams& p, const JoinedHeads& of, float* weights) {
  constexpr int kHeads = kDecodeHeads / kWarps;
  constexpr int kPerLane = kMaxDecodeSplits / kWarpSize;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  SplitStats stats[kHeads][kPerLane];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int head = warp + h * kWarps;
      const int split = lane + i * kWarpSize;
      stats[h][i] = {MinusInfinity(), 0.0f};
      if (head < of.heads && split < of.count) {
        stats[h][i] = LoadFresh(p.split_stats + (of.first + head) * p.splits + split);
      }
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const int head = warp + h * kWarps;
    if (head >= of.heads) continue;
    float largest = MinusInfinity();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) largest = fmaxf(largest, stats[h][i].largest);
    largest = WarpMax(largest);
    if (largest == MinusInfinity()) largest = 0.0f;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      total = fmaf(stats[h][i].total, Exp2(stats[h][i].largest - largest), total);
    }
    total = WarpSum(total);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      weights[head * kMaxDecodeSplits + lane + i * kWarpSize] =
          total > 0.0f ? Exp2(stats[h][i].largest - largest) / total : 0.0f;
    }
  }
}

// out = the splits' sums times their factors, always in the order of the splits. head_dim is a multiple of 4.
template <int kWarps>
__device__ void JoinSplits(const AttentionParams& p, const JoinedHeads& of, float* weights) {
  constexpr int kBatch = 16;  // sums under way
  const int chunks = p.head_dim / 4;
  Pack<float, 4> sums[kBatch];
  const auto load = [&](int at, int first) {
    const float* from = p.split_sums + ((of.first + at / chunks) * p.splits + first) * p.head_dim;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      sums[i] = {};
      if (first + i < of.count) {
        sums[i] = LoadFresh(
            reinterpret_cast<const Pack<float, 4>*>(from + int64_t{i} * p.head_dim + at % chunks * 4));
      }
    }
  };
  const int count = of.heads * chunks;
  int at = threadIdx.x;
  if (at < count) load(at, 0);  // arrives while the weights are found
  WeighSplits<kWarps>(p, of, weights);
  __syncthreads();
  while (at < count) {
    const float* weight = weights + at / chunks * kMaxDecodeSplits;
    Pack<float, 4> out = {};
    for (int first = 0;;) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
#pragma unroll
        for (int d = 0; d < 4; ++d) out.values[d] = fmaf(weight[first + i], sums[i].values[d], out.values[d]);
      }
      first += kBatch;
      if (first >= of.count) break;
      load(at, first);
    }
    *reinterpret_cast<Pack<float, 4>*>(of.out + int64_t{at} * 4) = out;
    at += kWarps * kWarpSize;
    if (at < count) load(at, 0);
  }
}

}  // namespace switchyard::cuda
