// Integer products with AVX2: pairs of bytes are multiplied and summed up in 16 bits, pairs of pairs in 32.
// Everything below the target line has internal linkage.
#include "integer_kernels.h"
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

struct Ints {
  using I = __m256i;
  using F = __m256;
  static constexpr int kLanes = 8;
  static constexpr bool kSigned = true;
  static constexpr int kTileTokens = 3;
  static constexpr int kTileVectors = 2;
  static constexpr int kStripVectors = 4;

  static I Load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static I LoadPart(const char* p, int64_t n) {
    char filled[32] = {};
    if (n > 0) __builtin_memcpy(filled, p, static_cast<size_t>(n < 32 ? n : 32));
    return Load(filled);
  }
  static void StoreBytes(char* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static I Word(const char* p) {
    int word;
    __builtin_memcpy(&word, p, sizeof(word));
    return _mm256_set1_epi32(word);
  }
  static I Low(I v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  static I High(I v) { return Low(_mm256_srli_epi16(v, 4)); }
  static I Byte(uint8_t value) { return _mm256_set1_epi8(static_cast<char>(value)); }
  static I Flip(I a, I b) { return _mm256_xor_si256(a, b); }
  static I Table(const uint8_t* values) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
  }
  static I LookUp(I table, I codes) { return _mm256_shuffle_epi8(table, codes); }

  // Magnitudes times what takes the signs of codes: 2 * 128 * 127 fits into 16 bits.
  static I Dot(I sum, I codes, I x) {
    return End(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)));
  }

  using P = I;
  static P Begin(I) { return _mm256_setzero_si256(); }
  static P AddSmall(P sum, I codes, I x) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x)); }
  static I End(I sum, P part) { return _mm256_add_epi32(sum, _mm256_madd_epi16(part, _mm256_set1_epi16(1))); }

  static I SetInt(int32_t value) { return _mm256_set1_epi32(value); }
  static F ToFloat(I v) { return _mm256_cvtepi32_ps(v); }
  static F Zero() { return _mm256_setzero_ps(); }
  static F Set(float value) { return _mm256_set1_ps(value); }
  static F LoadFloats(const float* p) { return _mm256_loadu_ps(p); }
  static F LoadSome(const float* p, int64_t n) { return _mm256_maskload_ps(p, FirstOf(n)); }
  static F LoadBf16(const char* p, int64_t n) {
    char filled[16] = {};
    __builtin_memcpy(filled, p, static_cast<size_t>(n) * 2);
    const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(filled));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(numbers), 16));
  }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void StoreSome(float* p, F v, int64_t n) { _mm256_maskstore_ps(p, FirstOf(n), v); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static float Sum(F v) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }

  static I Gather(I start, const I* v) {
    const I sum = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm256_add_epi32(sum, start);
  }
  template <int kBlocks>
  static I SpreadStarts(const int32_t* p, int64_t n) {
    const I numbers = _mm256_maskload_epi32(p, FirstOf(n));
    // Of a block that has two lanes the upper one begins with zero.
    return kBlocks == 8 ? _mm256_permutevar8x32_epi32(numbers, Places()) : numbers;
  }
  template <int kBlocks>
  static F Spread(F numbers) {
    static_assert(kBlocks == 8 || kBlocks == 4);
    return kBlocks == 8 ? _mm256_permutevar8x32_ps(numbers, Places())
                        : _mm256_permute2f128_ps(numbers, numbers, 0);
  }

  static RoundedBlock RoundBlock(const float* x, IntegerOrder order, int8_t* first, int8_t* second) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 greatest = Zero();
    __m256 poison = Zero();
    for (int i = 0; i < 32; i += 8) {
      const __m256 v = LoadFloats(x + i);
      greatest = _mm256_max_ps(_mm256_and_ps(v, magnitude), greatest);
      poison = _mm256_add_ps(poison, _mm256_mul_ps(v, Zero()));
    }
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(greatest), _mm256_extractf128_ps(greatest, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    const float most = _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
    const F inverse = Set(most > 0.0f ? 127.0f / most : 0.0f);
    const auto codes = [&](int i) { return _mm256_cvtps_epi32(Mul(LoadFloats(x + i), inverse)); };
    // Packing goes by halves of 128 bits: their words are put into order afterwards.
    const __m256i mixed =
        _mm256_packs_epi16(_mm256_packs_epi32(codes(0), codes(8)), _mm256_packs_epi32(codes(16), codes(24)));
    __m256i all = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), all);
    const __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 1));
    if (order == IntegerOrder::kSplit) {
      const __m128i apart = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
      all = _mm256_shuffle_epi8(all, _mm256_broadcastsi128_si256(apart));
      all = _mm256_permute4x64_epi64(all, _MM_SHUFFLE(3, 1, 2, 0));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(first), _mm256_castsi256_si128(all));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(second), _mm256_extracti128_si256(all, 1));
    return {most * (1.0f / 127.0f) + Sum(poison), _mm_cvtsi128_si32(sum)};
  }

 private:
  // The block of each of Gather's lanes, of two blocks a vector.
  static __m256i Places() { return _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7); }
  static __m256i FirstOf(int64_t n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
  }
};

#include "simd/integer.inc"

}  // namespace

const IntegerKernels* Avx2Integer() { return &kIntegerKernels; }

}  // namespace switchyard::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace switchyard::cpu {
const IntegerKernels* Avx2Integer() { return nullptr; }
}  // namespace switchyard::cpu

#endif
