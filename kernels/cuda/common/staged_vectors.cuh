// Vectors that a block keeps in shared memory for its matrix-vector products: already rounded to the type of
// the weights, widened again.
#pragma once
#include "../../common/moe_planner.h"
#include "numeric.cuh"

namespace switchyard::cuda {

// Packs of a vector with those that fill its last step of a warp.
SWITCHYARD_HOST_DEVICE constexpr int PaddedPacks(int packs) {
  return static_cast<int>(CeilDiv(packs, kWarpSize)) * kWarpSize;
}

// Elements lie in packs of as many as are in a 16-byte pack of weights of type T: all packs' first four,
// then, of 16-bit types, their second four, so that a warp that reads neighbouring packs meets no bank twice.
template <typename T>
class StagedVector {
 public:
  static constexpr int kVector = kVectorOf<T>;

  // `memory` has room for PaddedPacks(packs) and begins on 16 bytes.
  __device__ StagedVector(float* memory, int packs)
      : fours_(reinterpret_cast<Pack<float, 4>*>(memory)), pitch_(PaddedPacks(packs)) {}

  // `four`: elements 4 * four and on.
  __device__ void Store(int four, const Pack<float, 4>& values) const {
    fours_[four % kFours * pitch_ + four / kFours] = values;
  }
  // The block's threads clear what lies behind the first `packs`.
  template <int kThreads>
  __device__ void ClearFrom(int packs) const {
    for (int i = packs * kFours + static_cast<int>(threadIdx.x); i < pitch_ * kFours; i += kThreads)
      Store(i, {});
  }
  // sum + x . weights, of one pack. Weights in flight stay words: as elements they would fill more registers.
  __device__ float AddDot(int pack, const uint4& words, float sum) const {
    const union {
      uint4 words;
      Pack<T, kVector> pack;
    } weights = {words};
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const Pack<float, 4> x = fours_[i * pitch_ + pack];
#pragma unroll
      for (int j = 0; j < 4; ++j) sum = fmaf(x.values[j], ToFloat(weights.pack.values[4 * i + j]), sum);
    }
    return sum;
  }

 private:
  static constexpr int kFours = kVector / 4;
  Pack<float, 4>* fours_;
  int pitch_;
};

// The block's threads bring elements [0, 4 * fours) of x to where store(four, values) puts them, rounded to
// T.
template <typename T, int kThreads, typename X, typename Store>
__device__ void StageRounded(const X* x, int fours, Store store) {
  constexpr int kAtOnce = 4;
  for (int base = threadIdx.x; base < fours; base += kThreads * kAtOnce) {
    Pack<X, 4> loaded[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int four = base + u * kThreads;
      loaded[u] = LoadPack<X, 4>(x + 4 * (four < fours ? four : base));
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int four = base + u * kThreads;
      if (four >= fours) continue;
      Pack<float, 4> values;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if constexpr (std::is_same_v<X, T>) {
          values.values[j] = ToFloat(loaded[u].values[j]);
        } else {
          values.values[j] = Rounded<T>(loaded[u].values[j]);
        }
      }
      store(four, values);
    }
  }
}

}  // namespace switchyard::cuda
