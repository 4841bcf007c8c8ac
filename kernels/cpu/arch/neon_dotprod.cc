// Integer products with the dot products of Armv8.2: signed bytes, four at a time, summed up in 32 bits.
// Everything below the target line has internal linkage.
#include "integer_kernels.h"
#include "simd/common.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace switchyard::cpu {
namespace {

#include "simd/integer_neon.inc"

struct Ints : NeonInts {
  static I Dot(I sum, I codes, I x) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
  }

  using P = I;
  static P Begin(I sum) { return sum; }
  static P AddSmall(P sum, I codes, I x) { return Dot(sum, codes, x); }
  static I End(I, P part) { return part; }
};

#include "simd/integer.inc"

}  // namespace

const IntegerKernels* NeonDotprodInteger() { return &kIntegerKernels; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const IntegerKernels* NeonDotprodInteger() { return nullptr; }
}  // namespace switchyard::cpu

#endif
