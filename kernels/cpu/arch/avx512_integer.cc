// Integer products with AVX-512 that has no VNNI: pairs of bytes are multiplied and summed up in 16 bits,
// pairs of pairs in 32. Everything below the target line has internal linkage.
#include "integer_kernels.h"
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

#include "simd/integer_avx512.inc"

struct Ints : Avx512Ints {
  static constexpr bool kSigned = true;

  // Magnitudes times what takes the signs of codes: 2 * 128 * 127 fits into 16 bits.
  static I Dot(I sum, I codes, I x) {
    const __mmask64 negative = _mm512_movepi8_mask(codes);
    const I turned = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
    return End(sum, _mm512_maddubs_epi16(_mm512_abs_epi8(codes), turned));
  }

  using P = I;
  static P Begin(I) { return _mm512_setzero_si512(); }
  static P AddSmall(P sum, I codes, I x) { return _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, x)); }
  static I End(I sum, P part) { return _mm512_add_epi32(sum, _mm512_madd_epi16(part, _mm512_set1_epi16(1))); }
};

#include "simd/integer.inc"

}  // namespace

const IntegerKernels* Avx512Integer() { return &kIntegerKernels; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const IntegerKernels* Avx512Integer() { return nullptr; }
}  // namespace switchyard::cpu

#endif
