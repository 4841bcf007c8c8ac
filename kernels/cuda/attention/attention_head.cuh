// One head of a token on its way from a projection to where it is attended with: RMS norm and rotation.
#pragma once
#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {

// Queries, keys or values as projected.
struct HeadSource {
  const float* x;    // [tokens, heads, head_dim]
  const void* norm;  // [head_dim], or null
  int heads;
  int pairs;  // that are rotated
};

SWITCHYARD_HOST_DEVICE inline HeadSource QuerySource(const AttentionParams& p) {
  return {p.inputs.q, p.inputs.q_norm, p.heads, p.inputs.pairs};
}
SWITCHYARD_HOST_DEVICE inline HeadSource KeySource(const AttentionParams& p) {
  return {p.inputs.k, p.inputs.k_norm, p.kv_heads, p.inputs.pairs};
}
SWITCHYARD_HOST_DEVICE inline HeadSource ValueSource(const AttentionParams& p) {
  return {p.inputs.v, nullptr, p.kv_heads, 0};
}

// A head held by a warp: element `lane + 32 * i` is a lane's i-th. Loading asks for all that the head needs
// and uses none of it, so that several heads can be under way: no load stands behind a lane's condition, and
// nothing is converted.
template <typename T, int kPerLane>
class WarpHead {
 public:
  __device__ void Load(const AttentionParams& p, const HeadSource& from, int token, int head) {
    const float* x = from.x + (static_cast<int64_t>(token) * from.heads + head) * p.head_dim;
    const T* norm = static_cast<const T*>(from.norm);
    const int64_t angles = static_cast<int64_t>(token) * from.pairs;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) x_[i] = x[Within(p.head_dim, i)];
    if (norm != nullptr) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) weight_[i] = norm[Within(p.head_dim, i)];
    }
    if (from.pairs == 0) return;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = Within(2 * from.pairs, i);
      const int angle = d < from.pairs ? d : d - from.pairs;
      other_[i] = x[Other(from, d)];
      cos_[i] = p.inputs.cos[angles + angle];
      sin_[i] = p.inputs.sin[angles + angle];
    }
    if (norm == nullptr) return;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) other_weight_[i] = norm[Other(from, Within(2 * from.pairs, i))];
  }

  // Calls store(d, value) for this lane's elements of [0, kPerLane * 32); those beyond the head are zeros.
  template <typename Store>
  __device__ void Finish(const AttentionParams& p, const HeadSource& from, const Store& store) const {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) squares += Dimension(i) < p.head_dim ? x_[i] * x_[i] : 0.0f;
    const bool normed = from.norm != nullptr;
    const float factor =
        normed ? 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(p.head_dim) + p.inputs.epsilon) : 1.0f;
    const auto scale = [&](float value, T weight) {
      return normed ? value * factor * (p.inputs.norm_offset + ToFloat(weight)) : value;
    };
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = Dimension(i);
      float value = d < p.head_dim ? scale(x_[i], weight_[i]) : 0.0f;
      if (d < 2 * from.pairs) {
        const float turned = scale(other_[i], other_weight_[i]) * sin_[i];
        value = fmaf(value, cos_[i], d < from.pairs ? -turned : turned);
      }
      store(d, value);
    }
  }

 private:
  static __device__ int Dimension(int i) { return static_cast<int>(threadIdx.x) % kWarpSize + i * kWarpSize; }
  // The lane's i-th dimension, or the first where there are not as many.
  static __device__ int Within(int count, int i) { return Dimension(i) < count ? Dimension(i) : 0; }
  // What a dimension is rotated against.
  static __device__ int Other(const HeadSource& from, int d) {
    return d < from.pairs ? d + from.pairs : d - from.pairs;
  }

  float x_[kPerLane];
  T weight_[kPerLane] = {};
  float other_[kPerLane] = {};
  T other_weight_[kPerLane] = {};
  float cos_[kPerLane] = {}, sin_[kPerLane] = {};
};

}  // namespace switchyard::cuda
