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

// A head held by a warp: a lane's i-th kWide elements begin at (lane + 32 * i) * kWide. Loading asks for all
// that the head needs and uses none of it, so that several heads can be under way: no load stands behind a
// lane's condition, and nothing is converted. More than one element at a time needs sizes and addresses that
// AllowsWideHeads accepts.
template <typename T, int kPerLane, int kWide = 1>
class WarpHead {
 public:
  __device__ void Load(const AttentionParams& p, const HeadSource& from, int token, int head) {
    const float* x = from.x + (static_cast<int64_t>(token) * from.heads + head) * p.head_dim;
    const T* norm = static_cast<const T*>(from.norm);
    const int64_t angles = static_cast<int64_t>(token) * from.pairs;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) x_[i] = LoadPack<float, kWide>(x + Within(p.head_dim, i));
    if (norm != nullptr) {
#pragma unroll
      for (int i = 0; i < kPacks; ++i) weight_[i] = LoadPack<T, kWide>(norm + Within(p.head_dim, i));
    }
    if (from.pairs == 0) return;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const int d = Within(2 * from.pairs, i);
      const int64_t angle = angles + (d < from.pairs ? d : d - from.pairs);
      other_[i] = LoadPack<float, kWide>(x + Other(from, d));
      cos_[i] = LoadPack<float, kWide>(p.inputs.cos + angle);
      sin_[i] = LoadPack<float, kWide>(p.inputs.sin + angle);
    }
    if (norm == nullptr) return;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      other_weight_[i] = LoadPack<T, kWide>(norm + Other(from, Within(2 * from.pairs, i)));
    }
  }

  // Calls store(d, Pack<T, kWide>) for this lane's elements of [0, kPerLane * 32), from d on; those beyond
  // the head are zeros.
  template <typename Store>
  __device__ void Finish(const AttentionParams& p, const HeadSource& from, const Store& store) const {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
#pragma unroll
      for (const float x : x_[i].values) squares += Dimension(i) < p.head_dim ? x * x : 0.0f;
    }
    const bool normed = from.norm != nullptr;
    const float factor =
        normed ? 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(p.head_dim) + p.inputs.epsilon) : 1.0f;
    const auto scale = [&](float value, T weight) {
      return normed ? value * factor * (p.inputs.norm_offset + ToFloat(weight)) : value;
    };
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const int d = Dimension(i);
      Pack<T, kWide> out;
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        float value = d < p.head_dim ? scale(x_[i].values[j], weight_[i].values[j]) : 0.0f;
        if (d < 2 * from.pairs) {
          const float turned = scale(other_[i].values[j], other_weight_[i].values[j]) * sin_[i].values[j];
          value = fmaf(value, cos_[i].values[j], d < from.pairs ? -turned : turned);
        }
        out.values[j] = FromFloat<T>(value);
      }
      store(d, out);
    }
  }

 private:
  static constexpr int kPacks = kPerLane / kWide;

  static __device__ int Dimension(int i) {
    return (static_cast<int>(threadIdx.x) % kWarpSize + i * kWarpSize) * kWide;
  }
  // The lane's i-th dimension, or the first where there are not as many.
  static __device__ int Within(int count, int i) { return Dimension(i) < count ? Dimension(i) : 0; }
  // What a dimension is rotated against.
  static __device__ int Other(const HeadSource& from, int d) {
    return d < from.pairs ? d + from.pairs : d - from.pairs;
  }

  Pack<float, kWide> x_[kPacks];
  Pack<T, kWide> weight_[kPacks] = {};
  Pack<float, kWide> other_[kPacks] = {};
  Pack<T, kWide> other_weight_[kPacks] = {};
  Pack<float, kWide> cos_[kPacks] = {}, sin_[kPacks] = {};
};

constexpr int kWideHead = 4;

// Whether a WarpHead may take kWideHead elements at a time.
inline bool AllowsWideHeads(const AttentionParams& p) {
  const PrepareParams& in = p.inputs;
  const auto aligned = [](auto... pointers) { return (IsAligned16(pointers) && ...); };
  return p.head_dim % kWideHead == 0 && in.pairs % kWideHead == 0 && p.q_pitch % kWideHead == 0 &&
         p.key_pitch % kWideHead == 0 &&
         aligned(in.q, in.k, in.v, in.q_norm, in.k_norm, in.cos, in.sin, p.q, p.keys, p.values);
}

}  // namespace switchyard::cuda
