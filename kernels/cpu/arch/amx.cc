// AMX: the table of AVX-512 with VBMI, with products of its own for matrices of bf16 weights and rounded
// activations, and for keys and values that many queries meet. Everything below the target line has internal
// linkage.
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
#pragma clang attribute push(                                                                      \
    __attribute__((                                                                                \
        target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")
#endif

namespace switchyard::cpu {
namespace {

#include "simd/bf16_pairs.inc"

// A tile register has this many rows of one cache line. Weight rows are the rows of a product's first factor,
// read where they lie; the columns of the second are tokens, whose values lie in pairs.
constexpr int kTileSide = 16;
constexpr int kLine = 64;
constexpr int kMostTokens = 2 * kTileSide;
static_assert(kMostTokens <= kMostTileTokens);

// Neither compiler knows that tile instructions read memory.
inline __attribute__((always_inline)) void Written(const void* at) {
  __asm__ volatile("" : : "r"(at) : "memory");
}

// What LDTILECFG reads (Intel SDM, volume 1, chapter 18).
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};

  void Set(int tile, int row_count, int row_bytes) {
    rows[tile] = static_cast<uint8_t>(row_count);
    bytes[tile] = static_cast<uint16_t>(row_bytes);
  }
  void Load() const {
    Written(this);
    _tile_loadconfig(this);
  }
};
static_assert(sizeof(TileConfig) == 64);

// How many of `count` rows or tokens the index-th tile takes.
inline int InTile(int count, int index) {
  const int left = count - index * kTileSide;
  return left < 0 ? 0 : left < kTileSide ? left : kTileSide;
}

// What a pass over the depths multiplies: two tiles of a kind share the one of the other.
enum class Pass { kOneTile, kTwoOfRows, kTwoOfTokens, kTwoOfTokensRagged };

// Of the registers: sums are 0 and 1; weights 2; tokens 3; and 4 those of a second tile that is not full. No
// more: a core shares those behind the names with its other thread, and where that is busy, too, a tile with
// many names in use waits for what still reads the one before. With four sums and four factors a product in
// cache took up to 1.4 times as long for it (Xeon).
void Configure(int rows, int tokens) {
  TileConfig config;
  const int first = InTile(tokens, 0), second = InTile(tokens, 1);
  config.Set(0, rows, first * 4);
  config.Set(1, rows, (second > 0 ? second : first) * 4);
  config.Set(2, rows, kLine);
  config.Set(3, kTileSide, first * 4);
  if (second > 0) config.Set(4, kTileSide, second * 4);
  config.Load();
}

// The first `values` of rows of weights, filled up with zeros.
struct alignas(64) LastDepths {
  char lines[2 * kTileSide][kLine];

  void Copy(const char* w, int64_t stride, int rows, int64_t values) {
    for (int r = 0; r < rows; ++r)
      _mm512_store_si512(lines[r], _mm512_maskz_loadu_epi16(FirstOf(values), w + r * stride));
    Written(lines);
  }
};

template <Pass kPass>
inline __attribute__((always_inline)) void Step(const char* w, int64_t w_stride, const char* x,
                                                int64_t x_stride) {
  _tile_loadd(3, x, x_stride);
  _tile_loadd(2, w, w_stride);
  _tile_dpbf16ps(0, 2, 3);
  if constexpr (kPass == Pass::kTwoOfRows) {
    _tile_loadd(2, w + kTileSide * w_stride, w_stride);
    _tile_dpbf16ps(1, 2, 3);
  } else if constexpr (kPass == Pass::kTwoOfTokens) {
    _tile_loadd(3, x + kLine, x_stride);
    _tile_dpbf16ps(1, 2, 3);
  } else if constexpr (kPass == Pass::kTwoOfTokensRagged) {
    _tile_loadd(4, x + kLine, x_stride);
    _tile_dpbf16ps(1, 2, 4);
  }
}

// c[t * c_stride + r] = sums[r][t] for r < rows, t < tokens, both at most 16.
void StoreTurned(const float (&sums)[kTileSide][kTileSide], int rows, int tokens, float* c,
                 int64_t c_stride) {
  __m512 row[kTileSide];
  SWITCHYARD_UNROLL
  for (int r = 0; r < kTileSide; ++r) row[r] = _mm512_load_ps(sums[r]);
  // Four rows of four values are turned within each quarter of the vectors, then the quarters.
  __m512 quarter[kTileSide];
  for (int r = 0; r < kTileSide; r += 4) {
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(row[r], row[r + 1]));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(row[r], row[r + 1]));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(row[r + 2], row[r + 3]));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(row[r + 2], row[r + 3]));
    quarter[r] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    quarter[r + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    quarter[r + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    quarter[r + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
  const __mmask16 written = static_cast<__mmask16>((1u << rows) - 1u);
  const auto store = [&](int t, __m512 values) {
    if (t < tokens) _mm512_mask_storeu_ps(c + t * c_stride, written, values);
  };
  for (int i = 0; i < 4; ++i) {
    const __m512 even01 = _mm512_shuffle_f32x4(quarter[i], quarter[i + 4], 0x88);
    const __m512 odd01 = _mm512_shuffle_f32x4(quarter[i], quarter[i + 4], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(quarter[i + 8], quarter[i + 12], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(quarter[i + 8], quarter[i + 12], 0xdd);
    store(i, _mm512_shuffle_f32x4(even01, even23, 0x88));
    store(i + 4, _mm512_shuffle_f32x4(odd01, odd23, 0x88));
    store(i + 8, _mm512_shuffle_f32x4(even01, even23, 0xdd));
    store(i + 12, _mm512_shuffle_f32x4(odd01, odd23, 0xdd));
  }
}

// `rows` weight rows from `w` on: those of one tile, or of two full ones.
template <Pass kPass>
void Rows(const TileArgs& args, const char* w, int rows, float* c) {
  constexpr bool kTwo = kPass != Pass::kOneTile;
  _tile_zero(0);
  if constexpr (kTwo) _tile_zero(1);
  const int64_t x_stride = args.tokens * 4;
  const char* x = static_cast<const char*>(args.x);
  int64_t k = 0;
  for (; k + kBlock <= args.depth; k += kBlock) {
    Step<kPass>(w + k * 2, args.w_stride, x, x_stride);
    x += kTileSide * x_stride;
  }
  if (k < args.depth) {
    LastDepths last;
    last.Copy(w + k * 2, args.w_stride, rows, args.depth - k);
    Step<kPass>(last.lines[0], kLine, x, x_stride);
  }
  alignas(64) float sums[2][kTileSide][kTileSide];
  _tile_stored(0, sums[0], kLine);
  if constexpr (kTwo) _tile_stored(1, sums[1], kLine);
  StoreTurned(sums[0], InTile(rows, 0), InTile(args.tokens, 0), c, args.c_stride);
  if constexpr (kPass == Pass::kTwoOfRows) {
    StoreTurned(sums[1], kTileSide, args.tokens, c + kTileSide, args.c_stride);
  } else if constexpr (kTwo) {
    StoreTurned(sums[1], rows, InTile(args.tokens, 1), c + kTileSide * args.c_stride, args.c_stride);
  }
}

// Every sum is added up from the first depth to the last, so that a token's results depend on neither the
// tokens nor the rows that they were computed with. What args.prefetch says is left to the processor: it
// follows the rows by itself, and lines that it is told to fetch keep those waiting that tiles read from its
// caches (1.2 times as fast without, Xeon, rows in memory).
void Tile(const TileArgs& args) {
  Written(args.x);
  int configured = 0;
  int64_t done = 0;
  for (int64_t r = 0; r < args.rows; r += done) {
    const int64_t left = args.rows - r;
    const int rows = static_cast<int>(left < kTileSide ? left : kTileSide);
    if (rows != configured) Configure(rows, args.tokens);
    configured = rows;
    done = rows;
    const char* w = args.w + r * args.w_stride;
    float* c = args.c + r;
    if (args.tokens == kMostTokens) {
      Rows<Pass::kTwoOfTokens>(args, w, rows, c);
    } else if (args.tokens > kTileSide) {
      Rows<Pass::kTwoOfTokensRagged>(args, w, rows, c);
    } else if (left >= 2 * kTileSide) {
      done = 2 * kTileSide;
      Rows<Pass::kTwoOfRows>(args, w, 2 * kTileSide, c);
    } else {
      Rows<Pass::kOneTile>(args, w, rows, c);
    }
  }
  // Otherwise the system saves tiles that nobody needs.
  _tile_release();
}

// Pairs of a token lie `group` pairs apart.
void Pack(const float* x, int64_t n, int64_t group, void* out) {
  char* slot = static_cast<char*>(out);
  const __m512i places =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                         _mm512_set1_epi32(static_cast<int>(group)));
  for (int64_t k = 0; k < n; k += kBlock, slot += group * kBlock * 2)
    _mm512_i32scatter_epi32(slot, places, RoundSome(x + k, n - k), 4);
}

// Columns of a panel that are multiplied side by side.
constexpr int kColumnTiles = 4;

// Tokens are the rows of the first factor and columns those of the second, both words of one line. Of the
// registers: sums are 0 to 3; tokens 4; columns 5.
void ConfigurePanel(int tokens) {
  TileConfig config;
  for (int i = 0; i <= 4; ++i) config.Set(i, tokens, kLine);
  config.Set(5, kTileSide, kLine);
  config.Load();
}

// 16 words deep, times kCount tiles of columns.
template <int kCount>
inline __attribute__((always_inline)) void PanelStep(const char* x, int64_t x_stride, const char* w,
                                                     int64_t w_stride) {
  _tile_loadd(4, x, x_stride);
  _tile_loadd(5, w, w_stride);
  _tile_dpbf16ps(0, 4, 5);
  if constexpr (kCount > 1) {
    _tile_loadd(5, w + kLine, w_stride);
    _tile_dpbf16ps(1, 4, 5);
  }
  if constexpr (kCount > 2) {
    _tile_loadd(5, w + 2 * kLine, w_stride);
    _tile_dpbf16ps(2, 4, 5);
  }
  if constexpr (kCount > 3) {
    _tile_loadd(5, w + 3 * kLine, w_stride);
    _tile_dpbf16ps(3, 4, 5);
  }
}

template <int kCount>
inline __attribute__((always_inline)) void LoadSums(const float* c, int64_t stride) {
  _tile_loadd(0, c, stride);
  if constexpr (kCount > 1) _tile_loadd(1, c + kTileSide, stride);
  if constexpr (kCount > 2) _tile_loadd(2, c + 2 * kTileSide, stride);
  if constexpr (kCount > 3) _tile_loadd(3, c + 3 * kTileSide, stride);
}

template <int kCount>
inline __attribute__((always_inline)) void ZeroSums() {
  _tile_zero(0);
  if constexpr (kCount > 1) _tile_zero(1);
  if constexpr (kCount > 2) _tile_zero(2);
  if constexpr (kCount > 3) _tile_zero(3);
}

template <int kCount>
inline __attribute__((always_inline)) void StoreSums(float* c, int64_t stride) {
  _tile_stored(0, c, stride);
  if constexpr (kCount > 1) _tile_stored(1, c + kTileSide, stride);
  if constexpr (kCount > 2) _tile_stored(2, c + 2 * kTileSide, stride);
  if constexpr (kCount > 3) _tile_stored(3, c + 3 * kTileSide, stride);
}

// The last words of tokens and columns, fewer than 16, filled up with zeros.
struct alignas(64) LastWords {
  char tokens[kTileSide][kLine];
  char columns[kTileSide][kColumnTiles * kLine];

  void Copy(const PanelArgs& args, int64_t word, const char* w, int count) {
    const int64_t words = args.words - word;
    const __mmask16 mask = static_cast<__mmask16>((1u << words) - 1u);
    for (int t = 0; t < args.tokens; ++t)
      _mm512_store_si512(tokens[t], _mm512_maskz_loadu_epi32(mask, args.x + t * args.x_stride + word * 4));
    for (int k = 0; k < kTileSide; ++k) {
      for (int i = 0; i < count; ++i) {
        _mm512_store_si512(columns[k] + i * kLine, k < words
                                                       ? _mm512_loadu_si512(w + k * args.w_stride + i * kLine)
                                                       : _mm512_setzero_si512());
      }
    }
    Written(this);
  }
};

// kCount tiles of columns from n on.
template <int kCount>
void PanelColumns(const PanelArgs& args, int64_t n) {
  float* c = args.c + n;
  const int64_t c_stride = args.c_stride * 4;
  if (args.accumulate) {
    LoadSums<kCount>(c, c_stride);
  } else {
    ZeroSums<kCount>();
  }
  const char* w = args.w + n * 4;
  int64_t word = 0;
  for (; word + kTileSide <= args.words; word += kTileSide, w += kTileSide * args.w_stride)
    PanelStep<kCount>(args.x + word * 4, args.x_stride, w, args.w_stride);
  if (word < args.words) {
    LastWords last;
    last.Copy(args, word, w, kCount);
    PanelStep<kCount>(last.tokens[0], kLine, last.columns[0], kColumnTiles * kLine);
  }
  StoreSums<kCount>(c, c_stride);
}

void Panel(const PanelArgs& args) {
  Written(args.x);
  ConfigurePanel(args.tokens);
  int64_t n = 0;
  for (; n + kColumnTiles * kTileSide <= args.columns; n += kColumnTiles * kTileSide)
    PanelColumns<kColumnTiles>(args, n);
  static_assert(kColumnTiles == 4);
  switch ((args.columns - n) / kTileSide) {
    case 1:
      PanelColumns<1>(args, n);
      break;
    case 2:
      PanelColumns<2>(args, n);
      break;
    case 3:
      PanelColumns<3>(args, n);
      break;
    default:
      break;
  }
  _tile_release();
}

}  // namespace

const KernelTable* AmxTable() {
  static const KernelTable kTable = [] {
    KernelTable table = *Avx512VbmiTable();
    table.name = "amx";
    table.matrices = {.pack = Pack, .tile = Tile, .bytes = 2, .tokens = kMostTokens, .pairs = true};
    PanelKernel& panel = table.panel[static_cast<int>(Precision::kBFloat16)];
    panel.multiply = Panel;
    panel.tokens = kTileSide;
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
const KernelTable* AmxTable() { return nullptr; }
}  // namespace switchyard::cpu

#endif
