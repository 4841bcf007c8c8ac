// The micro-kernels for products of integer codes with activations that are rounded to int8.
#pragma once
#include <cstdint>

namespace switchyard::cpu {

// Activations are rounded in blocks of so many, with a scale of their own.
inline constexpr int64_t kIntegerBlock = 32;
// Their codes come in chunks of so many, the last one filled up with zeros.
inline constexpr int64_t kIntegerChunk = 128;
// Rows that lie side by side in a panel.
inline constexpr int64_t kIntegerPanelRows = 32;
// Words of a panel a block: 4 codes each.
inline constexpr int64_t kIntegerWords = kIntegerBlock / 4;

// How one token's codes follow each other in a chunk.
enum class IntegerOrder : int {
  kNatural = 0,  // as the activations
  kSplit = 1,    // the even ones of the whole chunk, then the odd ones: as nibbles of bytes are taken apart
};

// What a block of rounded activations has in common.
struct RoundedBlock {
  float scale;  // NaN where any value is no finite number
  int32_t sum;  // of the codes
};

// One token: x[i] ~ scales[i / 32] * codes[i].
struct IntegerRow {
  int8_t* codes;    // [chunks * 128]
  float* scales;    // [blocks], which fill whole chunks
  int32_t* starts;  // [blocks] -offset * the sum of a block's codes: what a sum of products begins with
  float* sums;      // [blocks] scale * the sum of a block's codes

  static int64_t Chunks(int64_t depth) { return (depth + kIntegerChunk - 1) / kIntegerChunk; }
  // Bytes of one token, and where its parts lie in them.
  static int64_t Bytes(int64_t depth) { return Chunks(depth) * (kIntegerChunk + 3 * kBlockBytes); }
  static IntegerRow At(char* memory, int64_t depth) {
    const int64_t chunks = Chunks(depth);
    char* scales = memory + chunks * kIntegerChunk;
    return {reinterpret_cast<int8_t*>(memory), reinterpret_cast<float*>(scales),
            reinterpret_cast<int32_t*>(scales + chunks * kBlockBytes),
            reinterpret_cast<float*>(scales + 2 * chunks * kBlockBytes)};
  }

 private:
  static constexpr int64_t kBlockBytes = kIntegerChunk / kIntegerBlock * 4;
};

// Rounds x[0, n), which begins at a depth that is a multiple of a block, into a token's place. What is left
// of the last block is filled with zeros.
using IntegerRoundFn = void (*)(const float* x, int64_t n, int64_t depth, IntegerOrder order, int32_t offset,
                                const IntegerRow& out);

// c[t * c_stride + r] = sum over blocks b of scale of x * (scales[g][r] * (sum of code * x code - offset *
// sum of x codes) + offsets[g][r] * sum of x codes), g = b / blocks_per_group, for rows side by side.
struct IntegerTileArgs {
  const char* x;     // token 0; see IntegerRow
  int64_t x_stride;  // bytes from token to token
  int tokens;        // 1 to kTileTokens
  int64_t depth;
  const char* w;     // a panel [blocks][kIntegerWords][kIntegerPanelRows] of words, or nibbles in place
  int64_t w_stride;  // of nibbles: bytes from word to word of a row
  int64_t rows;      // of a panel at most kIntegerPanelRows
  int64_t blocks_per_group;
  const float* scales;   // [groups][scale_stride], room for all rows of a panel
  const float* offsets;  // likewise; null: none
  int64_t scale_stride;
  float* c;
  int64_t c_stride;
};
using IntegerTileFn = void (*)(const IntegerTileArgs& args);

// The same for one token and rows that lie one after the other, with scales[r * scale_stride + b] of each
// block.
struct IntegerRowsArgs {
  const char* x;
  int64_t depth;
  const char* w;
  int64_t w_stride;  // bytes from row to row
  int64_t rows;
  uint8_t flip;           // bytes: exclusive or with each code, after which it is as signed_bytes says
  const uint8_t* values;  // nibbles: [16] the code, up to 24, that each stands for; null: itself
  const float* scales;
  const char* bf16_scales;  // instead of `scales`, at any address; null as well: all are 1
  const float* offsets;
  int64_t scale_stride;  // in numbers
  float* c;
};
using IntegerRowsFn = void (*)(const IntegerRowsArgs& args);

// Words of 8 nibbles [count][kIntegerPanelRows], `stride` bytes from word to word, as a panel of bytes.
using IntegerUnpackFn = void (*)(const char* words, int64_t stride, int64_t count, const uint8_t* values,
                                 char* panel);

struct IntegerKernels {
  // Whether codes of 8 bits are taken for signed numbers, from -128 on, and not for unsigned ones.
  bool signed_bytes;
  IntegerRoundFn round;
  IntegerTileFn panel[2];  // [IntegerOrder] of x
  IntegerTileFn columns;   // nibbles [words][rows] in place, for one token
  IntegerRowsFn nibbles;
  IntegerRowsFn bytes;
  IntegerUnpackFn unpack;
};

// Those of the tables of these names; null when the binary was not built for that processor family.
const IntegerKernels* PortableInteger();
const IntegerKernels* Avx2Integer();
const IntegerKernels* Avx512Integer();
const IntegerKernels* Avx512VnniInteger();
const IntegerKernels* NeonInteger();
const IntegerKernels* NeonDotprodInteger();
const IntegerKernels* NeonI8mmInteger();

}  // namespace switchyard::cpu
