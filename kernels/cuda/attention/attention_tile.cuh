// What the tensor-core attention kernels share: bringing rows of queries, keys or values to shared memory,
// and one warp's products and online softmax (Dao et al., FlashAttention, arXiv 2205.14135).
#pragma once
#include <type_traits>

#include "../common/fragments.h"
#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {

// Rows lie one chunk further apart than they are long, which spreads eight of them over all banks.
template <int kDim>
constexpr int kRowPitch = kDim + kHeadChunk;

// Copies kRows rows, `stride` apart, to shared memory, shared out over kThreads threads; rows from `rows` on
// and elements beyond a row's `pitch` become zeros. Unrolling keeps addresses in registers, which a kernel
// may lack.
template <typename T, int kDim, int kRows, int kThreads, int kUnroll>
__device__ void LoadRows(T* shared, const T* from, int rows, int stride, int pitch, int thread) {
  constexpr int kChunks = kDim / kHeadChunk;
#pragma unroll kUnroll
  for (int i = thread; i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int element = i % kChunks * kHeadChunk;
    const bool valid = row < rows && element < pitch;
    CopyAsync16(shared + row * kRowPitch<kDim> + element,
                valid ? from + static_cast<int64_t>(row) * stride + element : from, valid);
  }
}

// Copies kRows keys of a row and kv head, from position `key` on, and their values; both become zeros from
// `end` on. kRows and key are multiples of kKeyAlignment.
template <typename T, int kDim, int kRows, int kThreads, int kUnroll>
__device__ void LoadKeys(const AttentionParams& p, int row, int kv_head, int key, int end, T* keys, T* values,
                         int thread) {
#pragma unroll
  for (int part = 0; part < kRows; part += kKeyAlignment) {
    const int wanted = Max(0, end - key - part);
    const int64_t offset = wanted > 0 ? KeyOffset(p, row, kv_head, key + part) : -1;
    const int rows = offset < 0 ? 0 : wanted;
    const int64_t from = offset < 0 ? 0 : offset;
    LoadRows<T, kDim, kKeyAlignment, kThreads, kUnroll>(keys + part * kRowPitch<kDim>,
                                                        static_cast<const T*>(p.keys) + from, rows,
                                                        p.key_pitch, p.key_pitch, thread);
    LoadRows<T, kDim, kKeyAlignment, kThreads, kUnroll>(values + part * kRowPitch<kDim>,
                                                        static_cast<const T*>(p.values) + from, rows,
                                                        p.key_pitch, p.key_pitch, thread);
  }
}

// Fragments of 16 queries in shared memory.
template <typename T, int kDim>
struct SharedQueries {
  const T* rows;
  __device__ void Load(int group, int step, uint32_t (&out)[4]) const {
    const MatrixRow at = LaneRowOfA(threadIdx.x % kWarpSize);
    LoadMatrices<false>(out,
                        rows + (group * 16 + at.row) * kRowPitch<kDim> + step * 16 + at.chunk * kHeadChunk);
  }
};

// kGroups groups of 16 queries against kKeys keys at a time. Lane l holds, of every group, rows l / 4 and l /
// 4 + 8 ("halves"), and of every eight columns 2 * (l % 4) and the next.
template <typename T, int kDim, int kGroups, int kKeys>
class WarpAttention {
 public:
  static constexpr int kKeySubtiles = kKeys / 8;
  static constexpr int kDimSubtiles = kDim / 8;
  static constexpr float kHeadroom = 8.0f;  // float16 holds such weights too

  __device__ WarpAttention() {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) largest_[g][0] = largest_[g][1] = MinusInfinity();
  }

  // Scores of the keys that begin at `keys` in shared memory.
  template <typename Queries>
  __device__ void Score(const Queries& queries, const T* keys) {
    const MatrixRow at = LaneRowOfB(threadIdx.x % kWarpSize);
    const T* row = keys + at.row * kRowPitch<kDim> + at.chunk * kHeadChunk;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int s = 0; s < kKeySubtiles; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores_[g][s][i] = 0.0f;
      }
    }
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      uint32_t q[kGroups][4];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) queries.Load(g, step, q[g]);
#pragma unroll
      for (int pair = 0; pair < kKeySubtiles / 2; ++pair) {
        uint32_t k[4];
        LoadMatrices<false>(k, row + pair * 16 * kRowPitch<kDim> + step * 16);
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          MultiplyAccumulate<T>(scores_[g][pair * 2], q[g], k[0], k[1]);
          MultiplyAccumulate<T>(scores_[g][pair * 2 + 1], q[g], k[2], k[3]);
        }
      }
    }
  }

  // Takes out the keys that lie outside of visible(row), a range; rows and keys count within the warp's
  // tile.
  template <typename Visible>
  __device__ void Mask(const Visible& visible) {
    const int lane = threadIdx.x % kWarpSize;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const KeyRange range = visible(g * 16 + half * 8 + lane / 4);
        const int begin = range.begin - lane % 4 * 2;
        const int end = range.end - lane % 4 * 2;
#pragma unroll
        for (int s = 0; s < kKeySubtiles; ++s) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int column = s * 8 + i;
            if (column < begin || column >= end) scores_[g][s][half * 2 + i] = MinusInfinity();
          }
        }
      }
    }
  }

  // Scores become weights; what was summed before is brought to new bases, where scores outgrew theirs.
  // scale is positive.
  __device__ void Softmax(float scale) {
    float shrink[kGroups][2];
    bool grown = false;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        shrink[g][half] = SoftmaxRow(g, half, scale);
        grown = grown || shrink[g][half] != 1.0f;
      }
    }
    if (__any_sync(kFullWarp, grown) != 0) Shrink(shrink);
  }

  // Adds the values, which begin at `values` in shared memory, times the weights.
  __device__ void Accumulate(const T* values) {
    const MatrixRow at = LaneRowOfTransposedB(threadIdx.x % kWarpSize);
    const T* row = values + at.row * kRowPitch<kDim> + at.chunk * kHeadChunk;
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      uint32_t weights[kGroups][4];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = scores_[g][step * 2 + i / 2];
          weights[g][i] = PackPair<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int pair = 0; pair < kDimSubtiles / 2; ++pair) {
        uint32_t v[4];
        LoadMatrices<true>(v, row + step * 16 * kRowPitch<kDim> + pair * 16);
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          MultiplyAccumulate<T>(sums_[g][pair * 2], weights[g], v[0], v[1]);
          MultiplyAccumulate<T>(sums_[g][pair * 2 + 1], weights[g], v[2], v[3]);
        }
      }
    }
  }

  // Sum of a row's weights; every lane of the row's four gets it.
  __device__ float Total(int group, int half) const {
    float total = totals_[group][half];
    total += __shfl_xor_sync(kFullWarp, total, 1);
    return total + __shfl_xor_sync(kFullWarp, total, 2);
  }
  // What a row's weights are relative to, in powers of two: about its largest score.
  __device__ float Largest(int group, int half) const { return largest_[group][half]; }
  // The sums of columns 8 * subtile + 2 * (l % 4) and the next, times factor.
  __device__ Pack<float, 2> Sums(int group, int half, int subtile, float factor) const {
    return {{sums_[group][subtile][half * 2] * factor, sums_[group][subtile][half * 2 + 1] * factor}};
  }

 private:
  // Weights of one row; returns what its sums have to be multiplied by.
  __device__ float SoftmaxRow(int g, int half, float scale) {
    float largest = MinusInfinity();
#pragma unroll
    for (int s = 0; s < kKeySubtiles; ++s) {
      largest = fmaxf(largest, fmaxf(scores_[g][s][half * 2], scores_[g][s][half * 2 + 1]));
    }
    largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 2));
    // A base stays while no weight exceeds 2^kHeadroom, since bringing all sums to a new one costs much.
    largest *= scale;
    if (!(largest > largest_[g][half] + kHeadroom)) largest = largest_[g][half];
    const float base = largest == MinusInfinity() ? 0.0f : largest;  // no key yet: all weights are 2^-inf
    const float shrink = Exp2(largest_[g][half] - base);
    largest_[g][half] = largest;
    float total = 0.0f;
#pragma unroll
    for (int s = 0; s < kKeySubtiles; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores_[g][s][half * 2 + i];
        score = Exp2(fmaf(score, scale, -base));
        total += score;
      }
    }
    totals_[g][half] = fmaf(totals_[g][half], shrink, total);
    return shrink;
  }

  __device__ void Shrink(const float (&factors)[kGroups][2]) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int s = 0; s < kDimSubtiles; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums_[g][s][i] *= factors[g][i / 2];
      }
    }
  }

  float scores_[kGroups][kKeySubtiles][4];
  float sums_[kGroups][kDimSubtiles][4] = {};
  float totals_[kGroups][2] = {};  // this lane's share
  float largest_[kGroups][2];
};

// Calls body(std::integral_constant) with the least head size the kernels are built for that holds
// `head_dim`, which is at most 128.
template <typename Body>
cudaError_t DispatchHeadDim(int head_dim, Body body) {
  if (head_dim <= 64) return body(std::integral_constant<int, 64>());
  if (head_dim <= 80) return body(std::integral_constant<int, 80>());
  return body(std::integral_constant<int, 128>());
}

}  // namespace switchyard::cuda
