// AVX2 with FMA and F16C. Everything below the target line has internal linkage.
#include "isa.h"
#include "simd/common.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

namespace switchyard::cpu {
namespace {

struct Vec {
  using F = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 2;

  static F Zero() { return _mm256_setzero_ps(); }
  static F Set(float value) { return _mm256_set1_ps(value); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }

  template <class T>
  static F LoadWide(const char* p) {
    if constexpr (kIs<T, Bf16>) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    } else if constexpr (kIs<T, Fp16>) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    } else {
      return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
  }

  template <class T, int kHalf>
  static F LoadHalf(const char* p) {
    if constexpr (!kIs<T, Bf16>) {
      return LoadWide<T>(p + kHalf * kLanes * static_cast<int>(sizeof(T)));
    } else {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      if constexpr (kHalf == 0) return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
      return _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
  }

  template <class T>
  static float Scalar(const char* p) {
    if constexpr (kIs<T, Fp32>) {
      float value;
      __builtin_memcpy(&value, p, sizeof(value));
      return value;
    } else {
      uint16_t bits;
      __builtin_memcpy(&bits, p, sizeof(bits));
      if constexpr (kIs<T, Fp16>) return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
      return _mm_cvtss_f32(
          _mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(static_cast<uint32_t>(bits) << 16))));
    }
  }

  template <class T>
  static void StoreNarrow(char* p, F v) {
    if constexpr (kIs<T, Fp32>) {
      _mm256_storeu_ps(reinterpret_cast<float*>(p), v);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), kIs<T, Fp16>
                                                          ? _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)
                                                          : UpperHalves(RoundBf16(v)));
    }
  }

  static void Split(const float* p, F& even, F& odd) {
    const F a = Load(p);
    const F b = Load(p + kLanes);
    even = Reorder(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
    odd = Reorder(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
  }

  static F RoundBf16(F v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i lsb = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(lsb, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const F chosen = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet),
                                      _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_and_ps(chosen, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static F Round(F v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F Pow2(F n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static F Clamp(F x, F low, F high) { return _mm256_min_ps(high, _mm256_max_ps(low, x)); }

  static F Nibbles(const char* p, const float* values) {
    int word;
    __builtin_memcpy(&word, p, sizeof(word));
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i codes = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    const F low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(values), codes);
    const F high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(values + 8), codes);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)));
  }
  static F Bytes(const char* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(LoadBytes(p))); }
  static F SignedBytes(const char* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(LoadBytes(p))); }
  // By way of fp16, whose bias is 8 more and which converts its subnormals whatever the processor is told.
  static F E4m3(const char* p) {
    const __m128i bits = _mm_cvtepu8_epi16(LoadBytes(p));
    const __m128i magnitude = _mm_slli_epi16(_mm_and_si128(bits, _mm_set1_epi16(0x7f)), 7);
    const __m128i sign = _mm_slli_epi16(_mm_and_si128(bits, _mm_set1_epi16(0x80)), 8);
    const __m128i nan =
        _mm_and_si128(_mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x3f80)), _mm_set1_epi16(0x7e00));
    return Mul(_mm256_cvtph_ps(_mm_or_si128(_mm_or_si128(magnitude, sign), nan)), Set(256.0f));
  }

  // Four horizontal sums for little more than the price of one.
  static void Sums(const F* v, int n, float* out) {
    const F a = v[0];
    const F b = n > 1 ? v[1] : a;
    const F c = n > 2 ? v[2] : a;
    const F d = n > 3 ? v[3] : a;
    const F all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }

 private:
  static __m128i LoadBytes(const char* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }

  // The upper 16 bits of every lane.
  static __m128i UpperHalves(F v) {
    const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(v), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  }

  // A shuffle leaves pairs from both inputs interleaved by 128-bit lane.
  static F Reorder(F v) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), _MM_SHUFFLE(3, 1, 2, 0)));
  }
};

#include "simd/kernels.inc"
#include "simd/transpose_sse.inc"

constexpr KernelTable kTable = MakeTable("avx2", Transpose16, Transpose32);

}  // namespace

const KernelTable* Avx2Table() { return &kTable; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const KernelTable* Avx2Table() { return nullptr; }
}  // namespace switchyard::cpu

#endif
