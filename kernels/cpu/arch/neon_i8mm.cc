// Integer products with the matrix instructions of Armv8.6 (I8MM), and its dot products where there is but
// one token. Everything below the target line has internal linkage.
#include "integer_kernels.h"
#include "simd/common.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod+i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
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

// Panels times several tokens: a matrix instruction multiplies two rows with two tokens, eight codes each.

SWITCHYARD_INLINE int8x8_t EightCodes(const char* p) { return vld1_s8(reinterpret_cast<const int8_t*>(p)); }

// kPairs pairs of tokens times 8 rows. Where the last token has no other beside it, it is its own.
template <int kPairs, bool kSplit, bool kOffsets>
void EightRows(const IntegerTileArgs& args, int64_t t0, int tokens, int64_t r) {
  constexpr int kRowPairs = 4;
  Token x[kPairs][2];
  F total[2 * kPairs][2];
  SWITCHYARD_UNROLL
  for (int p = 0; p < kPairs; ++p) {
    SWITCHYARD_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int t = 2 * p + i < tokens ? 2 * p + i : tokens - 1;
      x[p][i] = Token(args.x + (t0 + t) * args.x_stride, args.depth);
      total[2 * p + i][0] = total[2 * p + i][1] = Ints::Zero();
    }
  }
  const int64_t blocks = Blocks(args.depth);
  for (int64_t b = 0; b < blocks; ++b) {
    I sum[kPairs][kRowPairs];
    SWITCHYARD_UNROLL
    for (int p = 0; p < kPairs; ++p) {
      const int32x2_t first = vdup_n_s32(x[p][0].starts[b]);
      const int32x2_t second = vdup_n_s32(x[p][1].starts[b]);
      SWITCHYARD_UNROLL
      for (int q = 0; q < kRowPairs; ++q) sum[p][q] = vcombine_s32(first, second);
    }
    SWITCHYARD_UNROLL
    for (int64_t j = 0; j < kIntegerWords; j += 2) {
      const char* w = args.w + ((b * kIntegerWords + j) * kIntegerPanelRows + r) * 4;
      int8x16_t rows[kRowPairs];
      SWITCHYARD_UNROLL
      for (int v = 0; v < 2; ++v) {
        const I low = Ints::Load(w + v * 16);
        const I high = Ints::Load(w + kIntegerPanelRows * 4 + v * 16);
        rows[2 * v] = vreinterpretq_s8_s32(vzip1q_s32(low, high));
        rows[2 * v + 1] = vreinterpretq_s8_s32(vzip2q_s32(low, high));
      }
      SWITCHYARD_UNROLL
      for (int p = 0; p < kPairs; ++p) {
        const int64_t place = XPlace<kSplit>(b, j);
        const int8x16_t values =
            vcombine_s8(EightCodes(x[p][0].codes + place), EightCodes(x[p][1].codes + place));
        SWITCHYARD_UNROLL
        for (int q = 0; q < kRowPairs; ++q) sum[p][q] = vmmlaq_s32(sum[p][q], values, rows[q]);
      }
    }
    const int64_t at = b / args.blocks_per_group * args.scale_stride + r;
    SWITCHYARD_UNROLL
    for (int p = 0; p < kPairs; ++p) {
      SWITCHYARD_UNROLL
      for (int v = 0; v < 2; ++v) {
        const int64x2_t a = vreinterpretq_s64_s32(sum[p][2 * v]);
        const int64x2_t c = vreinterpretq_s64_s32(sum[p][2 * v + 1]);
        const I of_token[2] = {vreinterpretq_s32_s64(vzip1q_s64(a, c)),
                               vreinterpretq_s32_s64(vzip2q_s64(a, c))};
        const F scale = Ints::LoadFloats(args.scales + at + v * 4);
        SWITCHYARD_UNROLL
        for (int i = 0; i < 2; ++i) {
          F& to = total[2 * p + i][v];
          to = Ints::Fma(Ints::Mul(Ints::ToFloat(of_token[i]), scale), Ints::Set(x[p][i].scales[b]), to);
          if constexpr (kOffsets)
            to = Ints::Fma(Ints::LoadFloats(args.offsets + at + v * 4), Ints::Set(x[p][i].sums[b]), to);
        }
      }
    }
  }
  for (int t = 0; t < tokens; ++t) {
    float* c = args.c + (t0 + t) * args.c_stride + r;
    for (int v = 0; v < 2; ++v) {
      const int64_t left = args.rows - r - v * 4;
      if (left >= 4) {
        Ints::Store(c + v * 4, total[t][v]);
      } else if (left > 0) {
        Ints::StoreSome(c + v * 4, total[t][v], left);
      }
    }
  }
}

template <bool kSplit, bool kOffsets>
void MatrixPanel(const IntegerTileArgs& args) {
  for (int64_t r = 0; r < args.rows; r += 8) {
    for (int t = 0; t < args.tokens; t += 6) {
      const int left = args.tokens - t;
      if (left > 4) {
        EightRows<3, kSplit, kOffsets>(args, t, left < 6 ? left : 6, r);
      } else if (left > 2) {
        EightRows<2, kSplit, kOffsets>(args, t, left, r);
      } else {
        EightRows<1, kSplit, kOffsets>(args, t, left, r);
      }
    }
  }
}

template <bool kSplit>
void MatrixPanels(const IntegerTileArgs& args) {
  if (args.tokens == 1) return Panel<kSplit>(args);
  if (args.offsets != nullptr) return MatrixPanel<kSplit, true>(args);
  MatrixPanel<kSplit, false>(args);
}

constexpr IntegerKernels kMatrixKernels = {
    Ints::kSigned, Round, {MatrixPanels<false>, MatrixPanels<true>}, Columns, Nibbles, Bytes, Unpack};

}  // namespace

const IntegerKernels* NeonI8mmInteger() { return &kMatrixKernels; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const IntegerKernels* NeonI8mmInteger() { return nullptr; }
}  // namespace switchyard::cpu

#endif
