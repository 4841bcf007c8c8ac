// AVX-512 F, BW, VL and DQ. Everything below the target line has internal linkage.
#include "isa.h"
#include "simd/common.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own AVX-512 headers set this off (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#endif

namespace switchyard::cpu {
namespace {

struct Vec {
  using F = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 4;

  static F Zero() { return _mm512_setzero_ps(); }
  static F Set(float value) { return _mm512_set1_ps(value); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }

  template <class T>
  static F LoadWide(const char* p) {
    if constexpr (kIs<T, Bf16>) {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    } else if constexpr (kIs<T, Fp16>) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    } else {
      return _mm512_loadu_ps(p);
    }
  }

  template <class T, int kHalf>
  static F LoadHalf(const char* p) {
    if constexpr (!kIs<T, Bf16>) {
      return LoadWide<T>(p + kHalf * kLanes * static_cast<int>(sizeof(T)));
    } else if constexpr (kHalf == 0) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
    } else {
      return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(0xaaaaaaaau, p));
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
      _mm512_storeu_ps(p, v);
    } else {
      const __m256i bits =
          kIs<T, Fp16> ? _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                       : _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(RoundBf16(v)), 16));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bits);
    }
  }

  static void Split(const float* p, F& even, F& odd) {
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const F a = Load(p);
    const F b = Load(p + kLanes);
    even = _mm512_permutex2var_ps(a, evens, b);
    odd = _mm512_permutex2var_ps(a, odds, b);
  }

  static F RoundBf16(F v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i lsb = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(lsb, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_add_epi32(bits, bias);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i chosen = _mm512_mask_mov_epi32(rounded, nan, quiet);
    return _mm512_castsi512_ps(_mm512_and_si512(chosen, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static F Round(F v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F Pow2(F n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  static F Clamp(F x, F low, F high) { return _mm512_min_ps(high, _mm512_max_ps(low, x)); }

  static F Nibbles(const char* p, const float* values) {
    const __m512i words = _mm512_castsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m512i half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m512i codes = _mm512_srlv_epi32(_mm512_permutexvar_epi32(half, words), shifts);
    return _mm512_permutexvar_ps(codes, _mm512_loadu_ps(values));
  }
  static F Bytes(const char* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(LoadBytes(p))); }
  static F SignedBytes(const char* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(LoadBytes(p))); }
  // By way of fp16, whose bias is 8 more and which converts its subnormals whatever the processor is told.
  static F E4m3(const char* p) {
    const __m256i bits = _mm256_cvtepu8_epi16(LoadBytes(p));
    const __m256i magnitude = _mm256_slli_epi16(_mm256_and_si256(bits, _mm256_set1_epi16(0x7f)), 7);
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(bits, _mm256_set1_epi16(0x80)), 8);
    const __m256i nan =
        _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x3f80)), _mm256_set1_epi16(0x7e00));
    return Mul(_mm512_cvtph_ps(_mm256_or_si256(_mm256_or_si256(magnitude, sign), nan)), Set(256.0f));
  }

  // Four horizontal sums for little more than the price of one.
  static void Sums(const F* v, int n, float* out) {
    const F a = v[0];
    const F b = n > 1 ? v[1] : a;
    const F c = n > 2 ? v[2] : a;
    const F d = n > 3 ? v[3] : a;
    const F ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const F cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d ab2 = _mm512_castps_pd(ab);
    const __m512d cd2 = _mm512_castps_pd(cd);
    const F all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)),
                                _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2)));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    _mm_storeu_ps(out, sums);
  }

 private:
  static __m128i LoadBytes(const char* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
};

#include "simd/kernels.inc"
#include "simd/transpose_sse.inc"

constexpr KernelTable kTable = MakeTable("avx512", Transpose16, Transpose32);

}  // namespace

const KernelTable* Avx512Table() { return &kTable; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const KernelTable* Avx512Table() { return nullptr; }
}  // namespace switchyard::cpu

#endif
