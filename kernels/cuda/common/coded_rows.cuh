// Reading quantized matrices: eight codes at a time, as numbers.
#pragma once
#include "../coded_matrix.h"
#include "numeric.cuh"

namespace switchyard::cuda {

// Eight neighbouring codes of a row and what belongs to them, as loaded.
struct CodeChunk {
  uint32_t low, high;  // 4 bits: all of them in low
  uint32_t scale, bias, zero;
};

__device__ inline float FloatOfBits(uint32_t bits) { return __int_as_float(static_cast<int>(bits)); }

// A whole number below 2^23 as fp32, less what the second was made of.
constexpr uint32_t kTwoTo23Bits = 0x4b000000u;
constexpr float kTwoTo23 = 8388608.0f;

// Bias 7, subnormals and the NaN 0x7f. The exponent is put where fp32 has its own and corrected by a factor,
// which takes care of subnormals.
__device__ inline float E4m3Value(uint32_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const float value = FloatOfBits((magnitude << 20) | (code & 0x80u) << 24) * 0x1p120f;
  return magnitude == 0x7fu ? FloatOfBits(0x7fc00000u) : value;
}

__device__ inline float E2m1Value(uint32_t code) {
  return FloatOfBits((code & 7u) << 22 | (code & 8u) << 28) * 0x1p126f;
}

// The number in the lower bits of a word.
__device__ inline float PartValue(uint32_t word, ScaleType type) {
  switch (type) {
    case ScaleType::kFloat32:
      return FloatOfBits(word);
    case ScaleType::kFloat16: {
      union {
        uint16_t bits;
        __half half;
      } value = {static_cast<uint16_t>(word)};
      return ToFloat(value.half);
    }
    case ScaleType::kBFloat16:
      return FloatOfBits(word << 16);
    case ScaleType::kE4m3:
      return E4m3Value(word & 0xffu);
    case ScaleType::kExponent:
      return FloatOfBits((word & 0xffu) == 0 ? 0x00400000u : (word & 0xffu) << 23);
    case ScaleType::kTable:
      break;
  }
  return 0.0f;
}

// log2 of an element's bytes.
__device__ inline int PartShift(ScaleType type) {
  if (type == ScaleType::kFloat32) return 2;
  return type == ScaleType::kFloat16 || type == ScaleType::kBFloat16 ? 1 : 0;
}

// The word of a part that holds element `index`, moved down to where the element begins: one load whatever
// the type, so that no branch stands before the loads that follow.
__device__ inline uint32_t LoadPart(const unsigned char* part, int64_t index, int shift) {
  const int64_t byte = index << shift;
  return *reinterpret_cast<const uint32_t*>(part + (byte & ~int64_t{3})) >> (byte & 3) * 8;
}

// Elements of a scale's, zero point's or bias' part; one branch for all of them.
template <int kCount>
__device__ void LoadParts(const unsigned char* part, const uint32_t (&index)[kCount], int shift,
                          uint32_t (&words)[kCount]) {
  if (shift == 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) words[i] = part[index[i]];
  } else if (shift == 1) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) words[i] = reinterpret_cast<const uint16_t*>(part)[index[i]];
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) words[i] = reinterpret_cast<const uint32_t*>(part)[index[i]];
  }
}
template <ScaleType kType, int kCount>
__device__ void PartsOf(const uint32_t (&words)[kCount], float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = PartValue(words[i], kType);
}
template <int kCount>
__device__ void PartValues(const uint32_t (&words)[kCount], ScaleType type, float (&values)[kCount]) {
  switch (type) {
    case ScaleType::kFloat32:
      return PartsOf<ScaleType::kFloat32>(words, values);
    case ScaleType::kFloat16:
      return PartsOf<ScaleType::kFloat16>(words, values);
    case ScaleType::kBFloat16:
      return PartsOf<ScaleType::kBFloat16>(words, values);
    case ScaleType::kE4m3:
      return PartsOf<ScaleType::kE4m3>(words, values);
    default:
      return PartsOf<ScaleType::kExponent>(words, values);
  }
}

// Eight neighbouring activations, moved 16 bytes at a time.
template <typename T>
struct InputChunk {
  static constexpr int kWidth = kVectorOf<T>;
  Pack<T, kWidth> packs[kCodeChunk / kWidth];
  __device__ float At(int i) const { return ToFloat(packs[i / kWidth].values[i % kWidth]); }
};

// Those at x, or zeros.
template <typename T>
__device__ InputChunk<T> LoadInputChunk(bool keep, const T* x) {
  constexpr int kWidth = InputChunk<T>::kWidth;
  InputChunk<T> chunk;
#pragma unroll
  for (int i = 0; i < kCodeChunk / kWidth; ++i)
    chunk.packs[i] = KeepIf<T, kWidth>(keep, LoadPack<T, kWidth>(x + i * kWidth));
  return chunk;
}

// A matrix. `header` is its own, or a copy of it in nearer memory.
class CodedRows {
 public:
  __device__ CodedRows(const CodedMatrix* header, const void* matrix)
      : header_(header), base_(static_cast<const unsigned char*>(matrix)) {}
  __device__ explicit CodedRows(const void* matrix)
      : CodedRows(static_cast<const CodedMatrix*>(matrix), matrix) {}

  // Codes k to k + 7 of a row; k is a multiple of 8.
  __device__ CodeChunk Load(int64_t row, int k) const {
    const bool bytes = CodeBits(header_->kind) == 8;
    const unsigned char* codes = base_ + header_->codes + row * header_->row_bytes + (bytes ? k : k / 2);
    const int64_t group =
        ((row + header_->first_row) >> header_->row_shift) * header_->groups + (k >> header_->col_shift);
    CodeChunk chunk = {};
    chunk.low = *reinterpret_cast<const uint32_t*>(codes);
    if (bytes) chunk.high = *reinterpret_cast<const uint32_t*>(codes + 4);
    chunk.scale = LoadPart(base_ + header_->scales, group, PartShift(header_->scale_type));
    if (header_->has_zeros != 0) chunk.zero = base_[header_->zeros + group];
    if (header_->has_biases != 0)
      chunk.bias = LoadPart(base_ + header_->biases, group, PartShift(header_->bias_type));
    return chunk;
  }

  // The codes' values, zero points subtracted, before they are scaled.
  __device__ void Values(const CodeChunk& chunk, float (&values)[kCodeChunk]) const {
    switch (header_->kind) {
      case CodeKind::kUint4: {
        const float zero = kTwoTo23 + Zero(chunk);
#pragma unroll
        for (int i = 0; i < kCodeChunk; ++i) values[i] = FloatOfBits(kTwoTo23Bits | Code4(chunk, i)) - zero;
        return;
      }
      case CodeKind::kUint8: {
        const float zero = kTwoTo23 + Zero(chunk);
#pragma unroll
        for (int i = 0; i < kCodeChunk; ++i) values[i] = FloatOfBits(kTwoTo23Bits | Code8(chunk, i)) - zero;
        return;
      }
      case CodeKind::kE4m3:
#pragma unroll
        for (int i = 0; i < kCodeChunk; ++i) values[i] = E4m3Value(Code8(chunk, i));
        return;
      case CodeKind::kE2m1:
#pragma unroll
        for (int i = 0; i < kCodeChunk; ++i) values[i] = E2m1Value(Code4(chunk, i));
        return;
      case CodeKind::kTable4:
#pragma unroll
        for (int i = 0; i < kCodeChunk; ++i) values[i] = header_->values[Code4(chunk, i)];
        return;
    }
  }

  __device__ float Scale(const CodeChunk& chunk) const {
    return PartValue(chunk.scale, header_->scale_type) * header_->factor;
  }
  __device__ bool HasBiases() const { return header_->has_biases != 0; }
  __device__ float Bias(const CodeChunk& chunk) const {
    return HasBiases() ? PartValue(chunk.bias, header_->bias_type) : 0.0f;
  }

  // sum + x . elements, given their values: the sum over the codes is scaled once.
  template <typename T>
  __device__ float AddDot(const CodeChunk& chunk, const float (&values)[kCodeChunk], const InputChunk<T>& x,
                          float sum) const {
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) dot = fmaf(values[i], x.At(i), dot);
    sum = fmaf(Scale(chunk), dot, sum);
    if (!HasBiases()) return sum;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) total += x.At(i);
    return fmaf(Bias(chunk), total, sum);
  }

  // The elements themselves.
  __device__ void Elements(const CodeChunk& chunk, float (&elements)[kCodeChunk]) const {
    Values(chunk, elements);
    const float scale = Scale(chunk);
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) elements[i] *= scale;
    if (!HasBiases()) return;
    const float bias = Bias(chunk);
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) elements[i] += bias;
  }

  // One of them, for kernels that are not about speed.
  __device__ float Element(int64_t row, int k) const {
    float elements[kCodeChunk];
    Elements(Load(row, k / kCodeChunk * kCodeChunk), elements);
    float element = 0.0f;
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) element = i == k % kCodeChunk ? elements[i] : element;
    return element;
  }

 private:
  __device__ static uint32_t Code4(const CodeChunk& chunk, int i) { return chunk.low >> (4 * i) & 0xfu; }
  __device__ static uint32_t Code8(const CodeChunk& chunk, int i) {
    return (i < 4 ? chunk.low : chunk.high) >> (i % 4 * 8) & 0xffu;
  }
  __device__ float Zero(const CodeChunk& chunk) const {
    return header_->has_zeros != 0 ? static_cast<float>(chunk.zero) : header_->zero;
  }

  const CodedMatrix* header_;
  const unsigned char* base_;
};

}  // namespace switchyard::cuda
