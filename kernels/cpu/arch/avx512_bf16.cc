// AVX-512 with BF16 dot products: the table of AVX-512, with its own product for bf16 weights and
// rounded activations. Everything below the target line has internal linkage.
#include "../../common/quantized.h"
#include "../../common/row_panels.h"
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
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#endif

namespace switchyard::cpu {
namespace {

#include "simd/ahead.inc"
#include "simd/bf16_pairs.inc"

constexpr int kTileRows = 4;

void Pack(const float* x, int64_t n, int64_t group, void* out) {
  char* slot = static_cast<char*>(out);
  for (int64_t k = 0; k < n; k += kBlock, slot += group * kBlock * 2)
    _mm512_storeu_si512(slot, RoundSome(x + k, n - k));
}

// Four horizontal sums for little more than the price of one.
inline __attribute__((always_inline)) __m128 Sums(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d ab2 = _mm512_castps_pd(ab);
  const __m512d cd2 = _mm512_castps_pd(cd);
  const __m512 all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)),
                                   _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// Sums kept side by side for each (row, token), to hide latency. It depends on the tokens alone, so that a
// row's result does not depend on which rows it was computed with.
constexpr int Chains(int tokens) { return tokens == 1 ? 4 : tokens <= 3 ? 2 : 1; }

template <int kTokens, int kRows, bool kPartial>
inline __attribute__((always_inline)) void Step(const char* const* w, const char* x, __mmask32 mask,
                                                __m512 (&sum)[kRows][kTokens]) {
  __m512bh row[kRows];
  SWITCHYARD_UNROLL
  for (int r = 0; r < kRows; ++r) row[r] = kPartial ? LoadSome(w[r], mask) : LoadPairs(w[r]);
  SWITCHYARD_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const __m512bh value = LoadPairs(x + t * kBlock * 2);
    SWITCHYARD_UNROLL
    for (int r = 0; r < kRows; ++r) sum[r][t] = _mm512_dpbf16_ps(sum[r][t], row[r], value);
  }
}

// kRows weight rows times kTokens tokens.
template <int kTokens, int kRows>
inline __attribute__((always_inline)) void Tile(const TileArgs& args, const char* rows, float* c,
                                                Prefetcher& ahead) {
  constexpr int kChains = Chains(kTokens);
  __m512 sum[kChains][kRows][kTokens];
  SWITCHYARD_UNROLL
  for (int i = 0; i < kChains; ++i) {
    SWITCHYARD_UNROLL
    for (int r = 0; r < kRows; ++r) {
      SWITCHYARD_UNROLL
      for (int t = 0; t < kTokens; ++t) sum[i][r][t] = _mm512_setzero_ps();
    }
  }
  const char* w[kRows];
  SWITCHYARD_UNROLL
  for (int r = 0; r < kRows; ++r) w[r] = rows + r * args.w_stride;
  const char* x = static_cast<const char*>(args.x);
  constexpr int64_t kStepBytes = kBlock * 2;
  int64_t k = 0;
  for (; k + kChains * kBlock <= args.depth; k += kChains * kBlock) {
    ahead.Advance(kChains);
    SWITCHYARD_UNROLL
    for (int i = 0; i < kChains; ++i) {
      if constexpr (kTokens == 1 && kRows == 1) FetchInStream(w[0]);
      Step<kTokens, kRows, false>(w, x, 0, sum[i]);
      x += kTokens * kStepBytes;
      SWITCHYARD_UNROLL
      for (int r = 0; r < kRows; ++r) w[r] += kStepBytes;
    }
  }
  for (; k < args.depth; k += kBlock) {
    Step<kTokens, kRows, true>(w, x, FirstOf(args.depth - k), sum[0]);
    x += kTokens * kStepBytes;
    SWITCHYARD_UNROLL
    for (int r = 0; r < kRows; ++r) w[r] += kStepBytes;
  }
  SWITCHYARD_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    __m512 total[4];
    SWITCHYARD_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int row = r < kRows ? r : 0;
      total[r] = sum[0][row][t];
      if constexpr (kChains == 2) total[r] = _mm512_add_ps(total[r], sum[1][row][t]);
      if constexpr (kChains == 4) {
        total[r] = _mm512_add_ps(_mm512_add_ps(total[r], sum[1][row][t]),
                                 _mm512_add_ps(sum[2][row][t], sum[3][row][t]));
      }
    }
    constexpr __mmask8 kWritten = (1 << kRows) - 1;
    float* at = c + t * args.c_stride;
    _mm_mask_storeu_ps(at, kWritten, Sums(total[0], total[1], total[2], total[3]));
  }
}

template <int kTokens>
void Rows(const TileArgs& args) {
  Prefetcher ahead = {args.prefetch, args.prefetch, args.prefetch_step};
  int64_t r = 0;
  if (!args.sequential) {
    for (; r + kTileRows <= args.rows; r += kTileRows) {
      Tile<kTokens, kTileRows>(args, args.w + r * args.w_stride, args.c + r, ahead);
    }
  }
  PageToucher pages = {args.w};
  for (; r < args.rows; ++r) {
    const char* row = args.w + r * args.w_stride;
    if (args.sequential) pages.Reach(row);
    Tile<kTokens, 1>(args, row, args.c + r, ahead);
  }
}

void Dispatch(const TileArgs& args) {
  static_assert(kTileTokens == 6);
  switch (args.tokens) {
    case 1:
      return Rows<1>(args);
    case 2:
      return Rows<2>(args);
    case 3:
      return Rows<3>(args);
    case 4:
      return Rows<4>(args);
    case 5:
      return Rows<5>(args);
    default:
      return Rows<6>(args);
  }
}

// Two depths of kVectors vectors of a panel times tokens [kFirst, kEnd), whose words lie `x_stride` bytes
// apart.
template <int kFirst, int kEnd, int kTokens, int kVectors>
inline __attribute__((always_inline)) void TokenPairs(const __m512bh (&row)[kVectors], const char* x,
                                                      int64_t x_stride, __m512 (&sum)[kTokens][kVectors]) {
  SWITCHYARD_UNROLL
  for (int t = kFirst; t < kEnd; ++t) {
    int pair;
    __builtin_memcpy(&pair, x + (t - kFirst) * x_stride, sizeof(pair));
    const __m512bh value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
    SWITCHYARD_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm512_dpbf16_ps(sum[t][v], row[v], value);
  }
}

template <int kVectors>
inline __attribute__((always_inline)) void LoadPanel(const char* w, __m512bh (&row)[kVectors]) {
  SWITCHYARD_UNROLL
  for (int v = 0; v < kVectors; ++v) row[v] = LoadPairs(w + v * 64);
}

// One row of sums a token, `stride` values apart.
template <int kTokens, int kVectors>
inline __attribute__((always_inline)) void StoreSums(const __m512 (&sum)[kTokens][kVectors], float* c,
                                                     int64_t stride) {
  SWITCHYARD_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    SWITCHYARD_UNROLL
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + t * stride + v * 16, sum[t][v]);
  }
}

// A row panel times kTokens tokens, the last kMore of them a group of their own. Every sum is added up from
// the first depth to the last, so that a row's result depends on neither the tokens nor the rows that it was
// computed with.
template <int kTokens, int kMore>
inline __attribute__((always_inline)) void RowPanel(const TileArgs& args, const char* w, float* c,
                                                    Prefetcher& ahead, PageToucher& pages) {
  constexpr int kGroup = kTokens - kMore;
  constexpr int kVectors = kPanelRows / 16;
  constexpr int64_t kPairBytes = kPanelRows * 4;
  // With products between the reads the processor does not fetch far enough by itself. (In a cache this
  // would cost: many tiles are told what to fetch instead.)
  constexpr int64_t kAhead = 8192;
  const bool streams = args.prefetch == nullptr;
  __m512 sum[kTokens][kVectors];
  SWITCHYARD_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    SWITCHYARD_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm512_setzero_ps();
  }
  const char* x = static_cast<const char*>(args.x);
  const char* more = static_cast<const char*>(args.more_x);
  const auto pair = [&](int64_t at) __attribute__((always_inline)) {
    __m512bh row[kVectors];
    LoadPanel(w, row);
    TokenPairs<0, kGroup>(row, x + at, kBlock * 2, sum);
    if constexpr (kMore > 0) TokenPairs<kGroup, kTokens>(row, more + at, kBlock * 2, sum);
    w += kPairBytes;
  };
  int64_t k = 0;
  for (; k + kBlock <= args.depth; k += kBlock) {
    if (streams) pages.Reach(w);
    ahead.Advance(kPanelRows / kTileRows);
    SWITCHYARD_UNROLL
    for (int p = 0; p < kBlock / 2; ++p) {
      if (kTokens > 1 && streams)
        for (int64_t line = 0; line < kPairBytes; line += 64) __builtin_prefetch(w + kAhead + line, 0, 2);
      pair(p * 4);
    }
    x += kGroup * kBlock * 2;
    more += kMore * kBlock * 2;
  }
  for (; k < args.depth; k += 2, x += 4, more += 4) pair(0);
  StoreSums(sum, c, args.c_stride);
}

template <int kTokens, int kMore = 0>
void RowPanelsOf(const TileArgs& args) {
  Prefetcher ahead = {args.prefetch, args.prefetch, args.prefetch_step};
  PageToucher pages = {args.w};
  for (int64_t r = 0; r < args.rows; r += kPanelRows)
    RowPanel<kTokens, kMore>(args, args.w + r * args.depth * 2, args.c + r, ahead, pages);
}

void DispatchPanels(const TileArgs& args) {
  static constexpr TileFn kOneGroup[] = {RowPanelsOf<1>, RowPanelsOf<2>, RowPanelsOf<3>,
                                         RowPanelsOf<4>, RowPanelsOf<5>, RowPanelsOf<6>};
  static constexpr TileFn kTwoGroups[] = {RowPanelsOf<7, 1>,  RowPanelsOf<8, 2>,  RowPanelsOf<9, 3>,
                                          RowPanelsOf<10, 4>, RowPanelsOf<11, 5>, RowPanelsOf<12, 6>};
  if (args.more_tokens > 0) return kTwoGroups[args.more_tokens - 1](args);
  kOneGroup[args.tokens - 1](args);
}

// One token's words: pairs of values, in order. The values of a block are read before any is written, so
// `out` may be x.
void ConvertPairs(const float* x, int64_t n, void* out) {
  char* words = static_cast<char*>(out);
  for (int64_t k = 0; k < n; k += kBlock, words += kBlock * 2) {
    const int64_t pairs = (n - k + 1) / 2;
    const __mmask16 written = static_cast<__mmask16>(pairs >= 16 ? 0xffffu : (1u << pairs) - 1u);
    _mm512_mask_storeu_epi32(words, written, RoundSome(x + k, n - k));
  }
}

// kTokens tokens times kVectors vectors of columns from n on.
template <int kTokens, int kVectors>
inline __attribute__((always_inline)) void PanelTile(const PanelArgs& args, int64_t n) {
  __m512 sum[kTokens][kVectors];
  float* c = args.c + n;
  SWITCHYARD_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    SWITCHYARD_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sum[t][v] = args.accumulate ? _mm512_loadu_ps(c + t * args.c_stride + v * 16) : _mm512_setzero_ps();
    }
  }
  const char* x = args.x;
  const char* w = args.w + n * 4;
  for (int64_t k = 0; k < args.words; ++k, x += 4, w += args.w_stride) {
    __m512bh row[kVectors];
    LoadPanel(w, row);
    TokenPairs<0, kTokens>(row, x, args.x_stride, sum);
  }
  StoreSums(sum, c, args.c_stride);
}

template <int kTokens>
void PanelVectors(const PanelArgs& args) {
  int64_t n = 0;
  int64_t vectors = args.columns / 16;
  // Five are taken as three and two: a single vector has too few sums to hide the latency.
  for (; vectors >= 4 && vectors != 5; vectors -= 4, n += 64) PanelTile<kTokens, 4>(args, n);
  for (; vectors >= 3; vectors -= 3, n += 48) PanelTile<kTokens, 3>(args, n);
  for (; vectors >= 2; vectors -= 2, n += 32) PanelTile<kTokens, 2>(args, n);
  for (; vectors >= 1; --vectors, n += 16) PanelTile<kTokens, 1>(args, n);
}

void Panel(const PanelArgs& args) {
  switch (args.tokens) {
    case 1:
      return PanelVectors<1>(args);
    case 2:
      return PanelVectors<2>(args);
    case 3:
      return PanelVectors<3>(args);
    case 4:
      return PanelVectors<4>(args);
    case 5:
      return PanelVectors<5>(args);
    default:
      return PanelVectors<6>(args);
  }
}

#include "simd/expanded_product_bf16.inc"

void NibbleProduct(const CodeProductArgs& args) {
  if (args.group == 16 && args.depth > 16) return CodeTokens<NibbleCodes<false>, true, false>(args);
  if (args.zeros != nullptr) return CodeTokens<NibbleCodes<true>, false, false>(args);
  if (args.biases != nullptr) return CodeTokens<NibbleCodes<false>, false, true>(args);
  CodeTokens<NibbleCodes<false>, false, false>(args);
}

#include "simd/expanded_words_bf16.inc"

}  // namespace

const KernelTable* Avx512Bf16Table() {
  static const KernelTable kTable = [] {
    KernelTable table = *Avx512Table();
    table.name = "avx512_bf16";
    table.operands[DTypeIndex(DType::kBFloat16)][static_cast<int>(Precision::kBFloat16)] = {Pack, Dispatch, 2,
                                                                                            DispatchPanels};
    table.panel[static_cast<int>(Precision::kBFloat16)] = {2, ConvertPairs, Panel};
    table.code_products[static_cast<int>(Precision::kBFloat16)] = {
        .pack = Pack,
        .bytes = 2,
        .multiply = {NibbleProduct, ByteProduct<false>, ByteProduct<true>, E4m3Product},
        .columns = WordsProduct<ColumnWords>,
        .awq = WordsProduct<AwqWords>};
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
const KernelTable* Avx512Bf16Table() { return nullptr; }
}  // namespace switchyard::cpu

#endif
