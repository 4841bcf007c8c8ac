// Advanced SIMD of 64-bit Arm, which every such processor has.
#include "isa.h"
#include "simd/common.h"

#if defined(__aarch64__)

#include <arm_neon.h>

namespace switchyard::cpu {
namespace {

struct Vec {
  using F = float32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 4;

  static F Zero() { return vdupq_n_f32(0.0f); }
  static F Set(float value) { return vdupq_n_f32(value); }
  static F Load(const float* p) { return vld1q_f32(p); }
  static void Store(float* p, F v) { vst1q_f32(p, v); }
  static F Add(F a, F b) { return vaddq_f32(a, b); }
  static F Mul(F a, F b) { return vmulq_f32(a, b); }
  static F Div(F a, F b) { return vdivq_f32(a, b); }
  static F Max(F a, F b) { return vmaxq_f32(a, b); }
  static F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }

  template <class T>
  static F LoadWide(const char* p) {
    if constexpr (kIs<T, Bf16>) {
      return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(LoadBytes(p)), 16));
    } else if constexpr (kIs<T, Fp16>) {
      return vcvt_f32_f16(vreinterpret_f16_u8(LoadBytes(p)));
    } else {
      return vreinterpretq_f32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)));
    }
  }

  template <class T, int kHalf>
  static F LoadHalf(const char* p) {
    if constexpr (!kIs<T, Bf16>) {
      return LoadWide<T>(p + kHalf * kLanes * static_cast<int>(sizeof(T)));
    } else {
      const uint32x4_t bits = vreinterpretq_u32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)));
      if constexpr (kHalf == 0) return vreinterpretq_f32_u32(vshlq_n_u32(bits, 16));
      return vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000u)));
    }
  }

  template <class T>
  static float Scalar(const char* p) {
    if constexpr (kIs<T, Fp32>) {
      float value;
      __builtin_memcpy(&value, p, sizeof(value));
      return value;
    } else if constexpr (kIs<T, Fp16>) {
      __fp16 value;
      __builtin_memcpy(&value, p, sizeof(value));
      return static_cast<float>(value);
    } else {
      uint16_t bits;
      __builtin_memcpy(&bits, p, sizeof(bits));
      const uint32_t wide = static_cast<uint32_t>(bits) << 16;
      float value;
      __builtin_memcpy(&value, &wide, sizeof(value));
      return value;
    }
  }

  template <class T>
  static void StoreNarrow(char* p, F v) {
    if constexpr (kIs<T, Fp32>) {
      vst1q_u8(reinterpret_cast<uint8_t*>(p), vreinterpretq_u8_f32(v));
    } else if constexpr (kIs<T, Fp16>) {
      vst1_u8(reinterpret_cast<uint8_t*>(p), vreinterpret_u8_f16(vcvt_f16_f32(v)));
    } else {
      const uint16x4_t bits = vshrn_n_u32(vreinterpretq_u32_f32(RoundBf16(v)), 16);
      vst1_u8(reinterpret_cast<uint8_t*>(p), vreinterpret_u8_u16(bits));
    }
  }

  static void Split(const float* p, F& even, F& odd) {
    const F a = Load(p);
    const F b = Load(p + kLanes);
    even = vuzp1q_f32(a, b);
    odd = vuzp2q_f32(a, b);
  }

  static F RoundBf16(F v) {
    const uint32x4_t bits = vreinterpretq_u32_f32(v);
    const uint32x4_t lsb = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(lsb, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    const uint32x4_t chosen = vbslq_u32(vceqq_f32(v, v), rounded, quiet);
    return vreinterpretq_f32_u32(vandq_u32(chosen, vdupq_n_u32(0xffff0000u)));
  }

  static F Round(F v) { return vrndnq_f32(v); }
  static F Pow2(F n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
  }
  static F Clamp(F x, F low, F high) { return vminq_f32(high, vmaxq_f32(low, x)); }

  static F Nibbles(const char* p, const float* values) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    const int32_t shifts[4] = {0, -4, -8, -12};
    const uint32x4_t codes = vandq_u32(vshlq_u32(vdupq_n_u32(bits), vld1q_s32(shifts)), vdupq_n_u32(15));
    // The four bytes of each value: 4 * code + 0, 1, 2, 3.
    const uint32x4_t places = vaddq_u32(vmulq_n_u32(codes, 0x04040404u), vdupq_n_u32(0x03020100u));
    const auto* bytes = reinterpret_cast<const uint8_t*>(values);
    const uint8x16x4_t table = {
        {vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
    return vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(places)));
  }
  static F Bytes(const char* p) { return vcvtq_f32_u32(vmovl_u16(FourBytes(p))); }
  static F SignedBytes(const char* p) {
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(LoadWord(p)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
  }
  // By way of fp16, whose bias is 8 more.
  static F E4m3(const char* p) {
    const uint16x4_t bits = FourBytes(p);
    const uint16x4_t magnitude = vshl_n_u16(vand_u16(bits, vdup_n_u16(0x7f)), 7);
    const uint16x4_t sign = vshl_n_u16(vand_u16(bits, vdup_n_u16(0x80)), 8);
    const uint16x4_t nan = vand_u16(vceq_u16(magnitude, vdup_n_u16(0x3f80)), vdup_n_u16(0x7e00));
    return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(vorr_u16(vorr_u16(magnitude, sign), nan))), 256.0f);
  }

  static void Sums(const F* v, int n, float* out) {
    for (int i = 0; i < n; ++i) out[i] = vaddvq_f32(v[i]);
  }

 private:
  static uint32x2_t LoadWord(const char* p) {
    uint32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return vdup_n_u32(word);
  }
  static uint16x4_t FourBytes(const char* p) {
    return vget_low_u16(vmovl_u8(vreinterpret_u8_u32(LoadWord(p))));
  }
  static uint8x8_t LoadBytes(const char* p) { return vld1_u8(reinterpret_cast<const uint8_t*>(p)); }
};

#include "simd/kernels.inc"

// Gathers a destination row at a time, in bands of source rows that stay in the first-level cache.
template <int64_t kBytes>
void Transpose(const char* src, int64_t src_stride, int64_t rows, int64_t columns, char* dst,
               int64_t dst_stride) {
  constexpr int64_t kBand = 16;
  for (int64_t r0 = 0; r0 < rows; r0 += kBand) {
    const int64_t r1 = r0 + kBand < rows ? r0 + kBand : rows;
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = r0; r < r1; ++r) {
        __builtin_memcpy(dst + c * dst_stride + r * kBytes, src + r * src_stride + c * kBytes, kBytes);
      }
    }
  }
}

constexpr KernelTable kTable = MakeTable("neon", Transpose<2>, Transpose<4>);

}  // namespace

const KernelTable* NeonTable() { return &kTable; }

}  // namespace switchyard::cpu

#else

namespace switchyard::cpu {
const KernelTable* NeonTable() { return nullptr; }
}  // namespace switchyard::cpu

#endif
