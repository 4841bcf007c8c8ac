// Integer products with the instructions that every 64-bit Arm processor has: pairs of bytes are summed up in
// 16 bits, pairs of pairs in 32.
#include "integer_kernels.h"
#include "simd/common.h"

#if defined(__aarch64__)

#include <arm_neon.h>

namespace switchyard::cpu {
namespace {

#include "simd/integer_neon.inc"

struct Ints : NeonInts {
  // A pair is at most 2 * 128 * 127, which fits.
  static I Dot(I sum, I codes, I x) {
    const int8x16_t a = vreinterpretq_s8_s32(codes);
    const int8x16_t b = vreinterpretq_s8_s32(x);
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(a, b)));
  }

  using P = I;
  static P Begin(I sum) { return sum; }
  static P AddSmall(P sum, I codes, I x) { return Dot(sum, codes, x); }
  static I End(I, P part) { return part; }
};

#include "simd/integer.inc"

}  // namespace

const IntegerKernels* NeonInteger() { return &kIntegerKernels; }

}  // namespace switchyard::cpu

#else

namespace switchyard::cpu {
const IntegerKernels* NeonInteger() { return nullptr; }
}  // namespace switchyard::cpu

#endif
