// Element types on the device: conversions, packs of several elements, reductions across a warp.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "../../common/types.h"
#include "ptx.cuh"

namespace switchyard::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float ToFloat(__half value) { return __half2float(value); }

template <typename T>
__device__ T FromFloat(float value);
template <>
__device__ inline float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__device__ inline __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}

// What is left of a value in a T.
template <typename T>
__device__ float Rounded(float value) {
  return ToFloat(FromFloat<T>(value));
}

__device__ inline float MinusInfinity() { return -__int_as_float(0x7f800000); }

__device__ inline float Sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }
__device__ inline float Silu(float x) { return x * Sigmoid(x); }

// kCount elements moved by one instruction.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T values[kCount];
};

// Elements in the widest access (16 bytes).
template <typename T>
constexpr int kVectorOf = 16 / static_cast<int>(sizeof(T));

// Weights are read once: 16-byte packs bypass the first-level cache, which keeps the activations.
template <typename T, int kCount>
__device__ Pack<T, kCount> LoadWeights(const T* address) {
  if constexpr (sizeof(Pack<T, kCount>) == 16) {
    union {
      uint4 bits;
      Pack<T, kCount> pack;
    } loaded = {LoadOnce16(address)};
    return loaded.pack;
  } else {
    return *reinterpret_cast<const Pack<T, kCount>*>(address);
  }
}

template <typename T, int kCount>
__device__ Pack<T, kCount> LoadPack(const T* address) {
  return *reinterpret_cast<const Pack<T, kCount>*>(address);
}

// The pack, or zeros; on the bits, since a conversion of 0.0f would become a branch around every element.
template <typename T, int kCount>
__device__ Pack<T, kCount> KeepIf(bool keep, Pack<T, kCount> pack) {
  using Word = std::conditional_t<sizeof(pack) % 4 == 0, uint32_t, uint16_t>;
  constexpr int kWords = sizeof(pack) / sizeof(Word);
  union {
    Pack<T, kCount> pack;
    Word words[kWords];
  } bits = {pack};
#pragma unroll
  for (int i = 0; i < kWords; ++i) bits.words[i] = keep ? bits.words[i] : Word{0};
  return bits.pack;
}

// The same sum in every lane, always added in the same order.
__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

__device__ inline float WarpMax(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, mask));
  }
  return value;
}

// kCount inputs of a product of T: of type T, or fp32 ones that are rounded to it.
template <typename T, int kCount, typename X>
struct InputPack {
  static constexpr int kPiece = kCount * sizeof(X) > 16 ? static_cast<int>(16 / sizeof(X)) : kCount;
  Pack<X, kPiece> pieces[kCount / kPiece];

  __device__ static InputPack Load(bool keep, const X* address) {
    InputPack loaded;
#pragma unroll
    for (int i = 0; i < kCount / kPiece; ++i)
      loaded.pieces[i] = KeepIf<X, kPiece>(keep, LoadPack<X, kPiece>(address + i * kPiece));
    return loaded;
  }
  __device__ float At(int i) const {
    const X value = pieces[i / kPiece].values[i % kPiece];
    if constexpr (std::is_same_v<X, T>) {
      return ToFloat(value);
    } else {
      return Rounded<T>(value);
    }
  }
};

// x . w over a warp, the same sum in every lane, x being of T or rounded to it; kUnroll packs of each are in
// flight at a time, given a kernel whose launch bounds grant the registers. count > 0. The first packs of w
// are on their way when `before_inputs` is called, which comes before x is read.
template <typename T, int kVector, typename X, typename BeforeInputs>
__device__ float WarpDot(const X* x, const T* w, int count, const BeforeInputs& before_inputs) {
  constexpr int kUnroll = 8;
  constexpr int kStep = kWarpSize * kVector;
  const int lane_first = static_cast<int>(threadIdx.x) % kWarpSize * kVector;
  Pack<T, kVector> b[kUnroll];
  // Past the end the first pack is loaded once more and multiplied with zeros.
  const auto place = [&](int i, int otherwise) { return i < count ? i : otherwise; };
  const auto load = [&](int base) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) b[u] = LoadWeights<T, kVector>(w + place(base + u * kStep, base));
  };
  load(place(lane_first, 0));
  before_inputs();
  float sum = 0.0f;
  for (int base = lane_first; base < count; base += kStep * kUnroll) {
    InputPack<T, kVector, X> a[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = base + u * kStep;
      a[u] = InputPack<T, kVector, X>::Load(i < count, x + place(i, base));
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum = fmaf(a[u].At(j), ToFloat(b[u].values[j]), sum);
    }
    if (base + kStep * kUnroll < count) load(base + kStep * kUnroll);
  }
  return WarpSum(sum);
}

// Reads or writes an element whose type is known only at run time; for outputs, which are few.
__device__ inline float LoadAs(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kFloat32) return static_cast<const float*>(data)[index];
  if (dtype == DType::kBFloat16) return ToFloat(static_cast<const __nv_bfloat16*>(data)[index]);
  return ToFloat(static_cast<const __half*>(data)[index]);
}
__device__ inline void StoreAs(void* data, DType dtype, int64_t index, float value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(data)[index] = value;
  } else if (dtype == DType::kBFloat16) {
    static_cast<__nv_bfloat16*>(data)[index] = FromFloat<__nv_bfloat16>(value);
  } else {
    static_cast<__half*>(data)[index] = FromFloat<__half>(value);
  }
}

}  // namespace switchyard::cuda
