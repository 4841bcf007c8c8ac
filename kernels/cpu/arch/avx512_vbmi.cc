// AVX-512 with VBMI: the table of AVX-512 with BF16, with codes of a byte looked up 64 at a time. Everything
// below the target line has internal linkage.
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
#pragma clang attribute push(                                                                          \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vbmi"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vbmi")
#endif

namespace switchyard::cpu {
namespace {

#include "simd/bf16_pairs.inc"
#include "simd/expanded_product_bf16.inc"

// What magnitudes below 128 stand for, as the lower and the upper bytes of bf16 values.
struct Magnitudes {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];

  constexpr void Set(int code, uint32_t bits) {
    low[code] = static_cast<uint8_t>(bits);
    high[code] = static_cast<uint8_t>(bits >> 8);
  }
};

// A whole number below 128, times 2^exponent.
constexpr uint32_t Bf16Bits(uint32_t number, int exponent) {
  if (number == 0) return 0;
  int top = 0;
  while (number >> (top + 1) != 0) ++top;
  return (static_cast<uint32_t>(127 + exponent + top) << 7) | (number << (7 - top) & 0x7fu);
}

constexpr Magnitudes Integers() {
  Magnitudes all{};
  for (int i = 0; i < 128; ++i) all.Set(i, Bf16Bits(static_cast<uint32_t>(i), 0));
  return all;
}

constexpr Magnitudes Float8() {
  Magnitudes all{};
  for (uint32_t i = 0; i < 128; ++i) {
    const uint32_t fraction = i & 7u;
    const uint32_t exponent = i >> 3;
    const int power = static_cast<int>(exponent) - 10;
    const uint32_t bits = exponent == 0 ? Bf16Bits(fraction, -9) : Bf16Bits(8 + fraction, power);
    all.Set(static_cast<int>(i), i == 127 ? 0x7fc0u : bits);
  }
  return all;
}

constexpr Magnitudes kIntegers = Integers();
constexpr Magnitudes kFloat8 = Float8();

// 64 codes by their lower seven bits, with the sign bits of `signs`. Codes keep their order.
struct ByteTable {
  __m512i low[2], high[2];

  inline __attribute__((always_inline)) void Load(const Magnitudes& of) {
    SWITCHYARD_UNROLL
    for (int i = 0; i < 2; ++i) {
      low[i] = _mm512_load_si512(of.low + 64 * i);
      high[i] = _mm512_load_si512(of.high + 64 * i);
    }
  }
  inline __attribute__((always_inline)) __m512i Low(__m512i codes) const {
    return _mm512_permutex2var_epi8(low[0], codes, low[1]);
  }
  inline __attribute__((always_inline)) __m512i High(__m512i codes, __m512i signs) const {
    const __m512i magnitude = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    // magnitude | (signs & 0x80)
    return _mm512_ternarylogic_epi32(magnitude, signs, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
  }
};

// Codes where pairing bytes puts the first 32 of them into one vector, and the others into another.
inline __attribute__((always_inline)) __m512i LoadApart(const char* codes, int64_t columns) {
  const __mmask64 first = columns >= 64 ? ~__mmask64{0} : (__mmask64{1} << columns) - 1;
  const __m512i read = _mm512_maskz_loadu_epi8(first, codes);
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), read);
}

inline __attribute__((always_inline)) void Pair(__m512i low, __m512i high, __m512bh* out) {
  out[0] = reinterpret_cast<__m512bh>(_mm512_unpacklo_epi8(low, high));
  out[1] = reinterpret_cast<__m512bh>(_mm512_unpackhi_epi8(low, high));
}

struct LookedUpCodes {
  static constexpr int64_t kColumns = 2 * kBlock;
  static constexpr int64_t kBytes = 2 * kBlock;
  static constexpr float kFactor = 1.0f;
  static constexpr bool kPerRow = false;
  ByteTable table;

  inline __attribute__((always_inline)) void Begin(const CodeProductArgs&, int64_t) {}
  inline __attribute__((always_inline)) bool HasNan() const { return false; }
};

struct LookedUpE4m3 : LookedUpCodes {
  inline __attribute__((always_inline)) void Init(const CodeProductArgs&) { table.Load(kFloat8); }
  inline __attribute__((always_inline)) void Read(const char* codes, int64_t columns, __m512bh* out) const {
    const __m512i read = LoadApart(codes, columns);
    Pair(table.Low(read), table.High(read, read), out);
  }
};

// Signed numbers, or unsigned ones whose zero point is 128.
template <bool kSigned>
struct LookedUpBytes : LookedUpCodes {
  inline __attribute__((always_inline)) void Init(const CodeProductArgs&) { table.Load(kIntegers); }
  inline __attribute__((always_inline)) void Read(const char* codes, int64_t columns, __m512bh* out) const {
    const __m512i lowest = _mm512_set1_epi8(static_cast<char>(0x80));
    __m512i read = LoadApart(codes, columns);
    if constexpr (!kSigned) read = _mm512_xor_si512(read, lowest);
    const __m512i magnitude = _mm512_abs_epi8(read);
    // -128 would be looked up as 0.
    const __m512i high =
        _mm512_mask_mov_epi8(table.High(magnitude, read), _mm512_cmpeq_epi8_mask(read, lowest),
                             _mm512_set1_epi8(static_cast<char>(0xc3)));
    Pair(table.Low(magnitude), high, out);
  }
};

// Whether steps of 64 columns end where groups do.
bool HasWideGroups(const CodeProductArgs& args) { return args.group % 64 == 0 || args.group >= args.depth; }

template <bool kSigned>
void WideByteProduct(const CodeProductArgs& args) {
  const bool is_centred =
      args.zeros == nullptr && args.biases == nullptr && args.zero == (kSigned ? 0.0f : 128.0f);
  if (!is_centred || !HasWideGroups(args)) return ByteProduct<kSigned>(args);
  CodeTokens<LookedUpBytes<kSigned>, false, false>(args);
}

void WideE4m3Product(const CodeProductArgs& args) {
  if (!HasWideGroups(args)) return E4m3Product(args);
  CodeTokens<LookedUpE4m3, false, false>(args);
}

}  // namespace

const KernelTable* Avx512VbmiTable() {
  static const KernelTable kTable = [] {
    KernelTable table = *Avx512Bf16Table();
    table.name = "avx512_vbmi";
    CodeProducts& products = table.code_products[static_cast<int>(Precision::kBFloat16)];
    products.multiply[static_cast<int>(CodeKind::kBytes)] = WideByteProduct<false>;
    products.multiply[static_cast<int>(CodeKind::kSignedBytes)] = WideByteProduct<true>;
    products.multiply[static_cast<int>(CodeKind::kE4m3)] = WideE4m3Product;
    return table;
  }();
  return &kTable;
}

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const KernelTable* Avx512VbmiTable() { return nullptr; }
}  // namespace switchyard::cpu

#endif
