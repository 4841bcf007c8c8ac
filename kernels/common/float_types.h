// Scalar conversions between fp32 and the 16-bit float formats. Header-only, no library calls.
#pragma once
#include <cstdint>
#include <cstring>

#include "types.h"

namespace switchyard {

inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t BitsFromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float Bf16ToFloat(uint16_t value) { return FloatFromBits(static_cast<uint32_t>(value) << 16); }

// Rounds to nearest, ties to even; NaN stays NaN.
inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = BitsFromFloat(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float RoundToBf16(float value) { return Bf16ToFloat(FloatToBf16(value)); }

inline float Fp16ToFloat(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  const uint32_t magnitude = value & 0x7fffu;
  if (magnitude >= 0x7c00u) return FloatFromBits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x0400u) return FloatFromBits(sign | ((magnitude << 13) + 0x38000000u));
  // Subnormal: magnitude * 2^-24 is exact in fp32.
  const float result = static_cast<float>(magnitude) * FloatFromBits(0x33800000u);
  return sign ? -result : result;
}

// Rounds to nearest, ties to even; overflow becomes infinity, NaN stays NaN.
inline uint16_t FloatToFp16(float value) {
  const uint32_t bits = BitsFromFloat(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Adding 0.5 leaves the subnormal's bits, correctly rounded, at the bottom of the mantissa.
    const float shifted = FloatFromBits(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (BitsFromFloat(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

// One element at any address, widened.
inline float LoadElement(const void* data, DType dtype) {
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, data, sizeof(value));
    return value;
  }
  uint16_t value;
  std::memcpy(&value, data, sizeof(value));
  return dtype == DType::kBFloat16 ? Bf16ToFloat(value) : Fp16ToFloat(value);
}

}  // namespace switchyard
