// AVX-512 with VNNI: the AVX-512 table, with integer products: unsigned bytes times signed ones, four at a
// time, summed up in 32 bits. Everything below the target line has internal linkage.
#include "integer_kernels.h"
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
#pragma clang attribute push(                                                               \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

#define SWITCHYARD_INLINE inline __attribute__((always_inline))

namespace switchyard::cpu {
namespace {

constexpr int64_t kHalfChunk = kIntegerChunk / 2;

SWITCHYARD_INLINE int64_t Blocks(int64_t depth) { return (depth + kIntegerBlock - 1) / kIntegerBlock; }

// One token's parts, as in IntegerRow::At.
struct Token {
  const char* codes;
  const float* scales;
  const int32_t* starts;
  const float* sums;

  Token() = default;
  SWITCHYARD_INLINE Token(const char* memory, int64_t depth) {
    constexpr int64_t kPartBytes = kIntegerChunk / kIntegerBlock * 4;
    const int64_t chunks = (depth + kIntegerChunk - 1) / kIntegerChunk;
    codes = memory;
    const char* part = memory + chunks * kIntegerChunk;
    scales = reinterpret_cast<const float*>(part);
    starts = reinterpret_cast<const int32_t*>(part + chunks * kPartBytes);
    sums = reinterpret_cast<const float*>(part + 2 * chunks * kPartBytes);
  }
};

void RoundBlock(const float* x, __mmask16 low, __mmask16 high, int64_t block, IntegerOrder order,
                int32_t offset, const IntegerRow& out) {
  const __m512 a = _mm512_maskz_loadu_ps(low, x);
  const __m512 b = _mm512_maskz_loadu_ps(high, x + (high != 0 ? 16 : 0));
  const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
  // NaN where any value is no finite number.
  const float poison = _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_mul_ps(a, _mm512_setzero_ps()), _mm512_mul_ps(b, _mm512_setzero_ps())));
  const __m512 inverse = _mm512_set1_ps(most > 0.0f ? 127.0f / most : 0.0f);
  __m128i codes_a = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)));
  __m128i codes_b = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
  const __m512i wide = _mm512_add_epi32(_mm512_cvtepi8_epi32(codes_a), _mm512_cvtepi8_epi32(codes_b));
  const int32_t sum = _mm512_reduce_add_epi32(wide);
  const int64_t chunk = block / 4 * kIntegerChunk;
  int8_t* first = out.codes + chunk + block % 4 * kIntegerBlock;
  int8_t* second = first + 16;
  if (order == IntegerOrder::kSplit) {
    const __m128i apart = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    codes_a = _mm_shuffle_epi8(codes_a, apart);
    codes_b = _mm_shuffle_epi8(codes_b, apart);
    const __m128i even = _mm_unpacklo_epi64(codes_a, codes_b);
    codes_b = _mm_unpackhi_epi64(codes_a, codes_b);
    codes_a = even;
    first = out.codes + chunk + block % 4 * 16;
    second = first + kHalfChunk;
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(first), codes_a);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(second), codes_b);
  const float scale = most * (1.0f / 127.0f) + poison;
  out.scales[block] = scale;
  out.starts[block] = -offset * sum;
  out.sums[block] = scale * static_cast<float>(sum);
}

void Round(const float* x, int64_t n, int64_t depth, IntegerOrder order, int32_t offset,
           const IntegerRow& out) {
  int64_t block = depth / kIntegerBlock;
  for (int64_t k = 0; k < n; k += kIntegerBlock, ++block) {
    const uint32_t mask = n - k >= kIntegerBlock ? 0xffffffffu : (1u << (n - k)) - 1u;
    RoundBlock(x + k, static_cast<__mmask16>(mask), static_cast<__mmask16>(mask >> 16), block, order, offset,
               out);
  }
}

#include "simd/vnni_rows.inc"
#include "simd/vnni_tiles.inc"

void Unpack(const char* words, int64_t stride, int64_t count, const uint8_t* values, char* panel) {
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i looked_up =
      values == nullptr ? _mm512_setzero_si512()
                        : _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
  constexpr int64_t kHalf = kIntegerWords / 2;
  constexpr int64_t kWordBytes = kIntegerPanelRows * 4;
  for (int64_t w = 0; w < count; ++w) {
    char* out = panel + (w / kHalf * kIntegerWords + w % kHalf) * kWordBytes;
    for (int64_t at = 0; at < kWordBytes; at += 64) {
      const __m512i both = _mm512_loadu_si512(words + w * stride + at);
      __m512i even = _mm512_and_si512(both, low);
      __m512i odd = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      if (values != nullptr) {
        even = _mm512_shuffle_epi8(looked_up, even);
        odd = _mm512_shuffle_epi8(looked_up, odd);
      }
      _mm512_storeu_si512(out + at, even);
      _mm512_storeu_si512(out + kHalf * kWordBytes + at, odd);
    }
  }
}

constexpr IntegerKernels kKernels = {Round, {Panel<false>, Panel<true>}, Columns, Nibbles, Bytes, Unpack};

}  // namespace

const KernelTable* Avx512VnniTable() {
  static const KernelTable table = [] {
    KernelTable all = *Avx512Table();
    all.name = "avx512_vnni";
    all.integer = &kKernels;
    return all;
  }();
  return &table;
}

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const KernelTable* Avx512VnniTable() { return nullptr; }
}  // namespace switchyard::cpu

#endif
