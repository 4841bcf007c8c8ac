// Integer products with AVX-512 VNNI: unsigned bytes times signed ones, four at a time, summed up in 32 bits.
// Everything below the target line has internal linkage.
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
#pragma clang attribute push(                                                               \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

namespace switchyard::cpu {
namespace {

#include "simd/integer_avx512.inc"

struct Ints : Avx512Ints {
  static constexpr bool kSigned = false;

  static I Dot(I sum, I codes, I x) { return _mm512_dpbusd_epi32(sum, codes, x); }

  using P = I;
  static P Begin(I sum) { return sum; }
  static P AddSmall(P sum, I codes, I x) { return Dot(sum, codes, x); }
  static I End(I, P part) { return part; }
};

#include "simd/integer.inc"

}  // namespace

const IntegerKernels* Avx512VnniInteger() { return &kIntegerKernels; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const IntegerKernels* Avx512VnniInteger() { return nullptr; }
}  // namespace switchyard::cpu

#endif
