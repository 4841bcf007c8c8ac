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
// without waiting for any of it, so that several heads can be under way.
template <typename T, int kPerLane>
class WarpHead {
 public:
  __device__ void Load(const AttentionParams& p, const HeadSource& from, int token, int head) {
    const int dim = p.head_dim;
    const float* x = from.x + (static_cast<int64_t>(token) * from.heads + head) * dim;
    const T* norm = static_cast<const T*>(from.norm);
    const int64_t angles = static_cast<int64_t>(token) * from.pairs;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = Dimension(i);
      const bool rotated = d < 2 * from.pairs;
      const bool low = d < from.pairs;
      const int other = low ? d + from.pairs : d - from.pairs;
      const int64_t angle = angles + (low ? d : other);
      x_[i] = d < dim ? x[d] : 0.0f;
      weight_[i] = norm != nullptr && d < dim ? ToFloat(norm[d]) : 0.0f;
      other_[i] = rotated ? x[other] : 0.0f;
      other_weight_[i] = norm != nullptr && rotated ? ToFloat(norm[other]) : 0.0f;
      cos_[i] = rotated ? p.inputs.cos[angle] : 1.0f;
      sin_[i] = rotated ? p.inputs.sin[angle] : 0.0f;
    }
  }

  // Calls store(d, value) for this lane's elements of [0, kPerLane * 32); those beyond the head are zeros.
  template <typename Store>
  __device__ void Finish(const AttentionParams& p, const HeadSource& from, const Store& store) const {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) squares += x_[i] * x_[i];
    const bool normed = from.norm != nullptr;
    const float factor =
        normed ? 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(p.head_dim) + p.inputs.epsilon) : 1.0f;
    const auto scale = [&](float value, float weight) {
      return normed ? value * factor * (p.inputs.norm_offset + weight) : value;
    };
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = Dimension(i);
      const float turned = scale(other_[i], other_weight_[i]) * (d < from.pairs ? -sin_[i] : sin_[i]);
      store(d, fmaf(scale(x_[i], weight_[i]), cos_[i], turned));
    }
  }

 private:
  static __device__ int Dimension(int i) { return static_cast<int>(threadIdx.x) % kWarpSize + i * kWarpSize; }

  float x_[kPerLane], weight_[kPerLane];
  float other_[kPerLane], other_weight_[kPerLane];  // what each is rotated against
  float cos_[kPerLane], sin_[kPerLane];
};

}  // namespace switchyard::cuda
