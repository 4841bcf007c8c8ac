// The micro-kernels one instruction set provides, and the choice among the sets.
#pragma once
#include <cstdint>

#include "../../common/types.h"
#include "integer_kernels.h"

namespace switchyard::cpu {

// Most tokens that a tile of vector registers holds. Activations are packed in groups of this many, or of
// Operand::tokens; the last group may be smaller.
inline constexpr int kTileTokens = 6;
inline constexpr int kMostTileTokens = 32;

// c[t * c_stride + r] = sum over k of x[t, k] * w[r, k], accumulated in fp32.
struct TileArgs {
  const void* x;     // one packed group (see PackFn), from a depth that is a multiple of the table's block
  int tokens;        // tokens in the group, 1 to Operand::tokens
  const char* w;     // element (first row, first depth); any address
  int64_t w_stride;  // bytes from row to row
  int64_t rows;      // weight rows
  int64_t depth;     // values of k
  float* c;
  int64_t c_stride;  // floats from token to token
  // Finish one row before touching the next: one token's product is bound by memory, which likes a single
  // stream.
  bool sequential;
  // Otherwise the weights that come next are fetched while these are multiplied: from `prefetch` on, so many
  // bytes for each step of KernelTable::tile_rows rows and one block; 0 for none.
  const char* prefetch;
  int64_t prefetch_step;
  // For row panels only: a second group, which meets them together with a full one. Its results follow.
  const void* more_x = nullptr;
  int more_tokens = 0;
};
using TileFn = void (*)(const TileArgs& args);

// Writes one token's x[0, n) into its place in a packed group of `group` tokens. A group is laid out
// [ceil(depth / block)][group][block], or with Operand::pairs [ceil(depth / block)][block / 2][group][2];
// `out` points at the token's first value. The tail of the last block is zeroed. Values may be rounded or
// permuted within a block, as the matching TileFn expects.
using PackFn = void (*)(const float* x, int64_t n, int64_t group, void* out);

// The product of packed activations with row-major weights of one dtype.
struct Operand {
  PackFn pack;
  TileFn tile;
  int bytes;  // per packed value
  // The same with weights in row panels (row_panels.h): `w` is the first of them, `rows` fills whole ones,
  // and nobody looks at w_stride and `sequential`. Null: rows are better, or the weights never lie so.
  TileFn panels = nullptr;
  int tokens = kTileTokens;  // most of a group; at most kMostTileTokens
  bool pairs = false;        // how a group is laid out
};

// y[t * y_stride + n] = sum over k of x[t * x_stride + k] * w[k, n] for few tokens and transposed weights:
// walks the rows of w in order and keeps y in the first-level cache. With `accumulate` the sum begins with
// what y holds.
struct AxpyArgs {
  const float* x;
  int64_t x_stride;
  int tokens;
  const char* w;     // element (k = 0, first column)
  int64_t w_stride;  // bytes from k to k + 1
  int64_t depth;
  int64_t columns;
  float* y;
  int64_t y_stride;
  bool accumulate = false;
  // What the caller multiplies next, with the same stride: fetched while the last depths are multiplied; null
  // for none.
  const char* next = nullptr;
};
using AxpyFn = void (*)(const AxpyArgs& args);

// Columns of a panel come in multiples of this; every instruction set's vectors divide it.
inline constexpr int64_t kPanelColumns = 16;

// Both factors of a panel's product lie in words: one fp32 value each, or two neighbouring depths as bf16
// (see PanelKernel).
inline constexpr int64_t kWordBytes = 4;

// c[t * c_stride + n] = sum over k of x[t, k] * w[k, n], accumulated in fp32, added to c when `accumulate` is
// set. Unlike a tile it meets columns side by side, so short depths cost no horizontal sums.
struct PanelArgs {
  const char* x;     // token 0, word 0
  int64_t x_stride;  // bytes from token to token
  int tokens;        // 1 to PanelKernel::tokens
  const char* w;     // word 0, column 0
  int64_t w_stride;  // bytes from word to word of one column
  int64_t words;     // depth
  int64_t columns;   // a multiple of kPanelColumns
  float* c;
  int64_t c_stride;  // floats from token to token
  bool accumulate;
};
using PanelFn = void (*)(const PanelArgs& args);

struct PanelKernel {
  int depths;  // values in a word: 1 or 2
  // Writes x[0, n) as the words of one token, rounded as the precision says; the last word is filled up with
  // zeros. `out` may be x.
  void (*convert)(const float* x, int64_t n, void* out);
  PanelFn multiply;
  int64_t tokens = kTileTokens;  // most that meet a panel at a time; at most kMostTileTokens
};

// dst[c * dst_stride + r] = src[r * src_stride + c] for r < rows, c < columns; strides in bytes, elements of
// 2 or 4 bytes.
using TransposeFn = void (*)(const char* src, int64_t src_stride, int64_t rows, int64_t columns, char* dst,
                             int64_t dst_stride);

// Tokens of one row and value head under the gated delta rule (Yang et al. 2024, arXiv:2412.06464), one after
// the other: S <- decay S; S <- S + k (beta (v - S^T k))^T; out = S^T q.
struct DeltaArgs {
  float* state;  // S, [key_dim, value_dim]
  int64_t key_dim, value_dim;
  const float *q, *k;         // [key_dim] each token
  const float* v;             // [value_dim] each token
  int64_t stride;             // floats from token to token, in q, k and v
  const float *decay, *beta;  // [tokens]
  int64_t tokens;
  float* out;  // [value_dim] each token
  int64_t out_stride;
};

// out[i] = silu(sum over the taps j of w[j * w_stride + i] * x[j][i]).
struct ConvArgs {
  const float* const* x;  // [taps], oldest first
  const float* w;
  int64_t w_stride;
  int64_t taps, channels;
  float* out;
};

// Codes of a quantized weight that lie side by side: of 4 bits, the low half of a byte first, or of 8.
enum class CodeKind : int { kNibbles = 0, kBytes = 1, kSignedBytes = 2, kE4m3 = 3 };
inline constexpr int kCodeKinds = 4;

// out[i] = (value of code i - zeros[g]) * scales[g] (+ biases[g]), g = (phase + i) / group, each operation
// rounded to fp32; in the end to bf16 where that is asked for.
struct ExpandArgs {
  const char* codes;
  int64_t n;
  int64_t group;
  int64_t phase;  // codes of the first group that come before these, below `group`
  const float* scales;
  const float* zeros;
  const float* biases;  // null: none
  const float* values;  // [16], what nibbles stand for
  char* out;
};
using ExpandFn = void (*)(const ExpandArgs& args);

// c[t * c_stride + r] = sum over k of x[t, k] * weight k of row r, a weight being what ExpandArgs says, which
// is nowhere rounded.
struct CodeProductArgs {
  const char* x;  // one packed group (see CodeProducts::pack)
  int tokens;     // in the group, 1 to kTileTokens
  int64_t depth;
  const char* codes;  // row 0
  int64_t codes_stride;
  int64_t rows;
  int64_t group;                         // a multiple of 32, or at least the depth; of nibbles also 16
  const float *scales, *zeros, *biases;  // [rows][groups_stride]; zeros or biases or both are null
  float zero;                            // where zeros is null
  int64_t groups_stride;
  const float* values;  // [16], what nibbles stand for
  float* c;
  int64_t c_stride;
};
using CodeProductFn = void (*)(const CodeProductArgs& args);

// The same for nibbles in 32-bit words, which are multiplied where they lie: 8 neighbouring columns of a row
// make a word and words of rows lie side by side, or, in AWQ's order, 8 neighbouring rows of a column.
struct CodeWordsArgs {
  const char* x;
  int tokens;
  int64_t depth;         // a multiple of 8
  const char* words;     // of row 0, column 0
  int64_t words_stride;  // bytes from 8 columns to the next 8, or from a column to the next
  int64_t rows;          // of AWQ's words a multiple of 8
  int64_t group;         // a multiple of 32, or at least the depth
  const float* scales;   // [groups][scales_stride]; of AWQ's words, of each 128 rows every eighth together
  int64_t scales_stride;
  const float* values;  // [16]
  float zero;           // where zero_words is null
  const char*
      zero_words;        // of row 0, group 0: 8 neighbouring rows each, in the codes' order; AWQ's are there
  int64_t zeros_stride;  // bytes from group to group
  uint32_t zeros_add;    // is added to each word of zero points
  float* c;
  int64_t c_stride;
};
using CodeWordsFn = void (*)(const CodeWordsArgs& args);

// Products of codes with few tokens, in one precision.
struct CodeProducts {
  PackFn pack = nullptr;
  int bytes = 0;                            // per packed value
  CodeProductFn multiply[kCodeKinds] = {};  // [CodeKind]
  // For nibbles in words of columns, and in AWQ's; null: they are brought into rows first.
  CodeWordsFn columns = nullptr, awq = nullptr;
};

inline constexpr int kDTypes = 3;
inline constexpr int kPrecisions = 2;

// Index of a dtype in a KernelTable: bf16, fp16, fp32.
inline int DTypeIndex(DType dtype) {
  return dtype == DType::kBFloat16 ? 0 : dtype == DType::kFloat16 ? 1 : 2;
}

// Whether products with these weights round their activations to bf16 first. The rule is the same on every
// instruction set, so results agree between them.
inline bool RoundsActivations(DType weights, Precision precision) {
  return FloatPart(precision) == Precision::kBFloat16 && weights == DType::kBFloat16;
}

struct KernelTable {
  const char* name;
  int block;      // values in a packed block; row blocks of a product are multiples of it
  int tile_rows;  // weight rows that a tile takes side by side
  Operand operands[kDTypes][kPrecisions];  // [DTypeIndex][Precision]
  AxpyFn axpy[kDTypes];
  TransposeFn transpose16;
  TransposeFn transpose32;
  // dst[i] = fp32 of src[i].
  void (*widen[kDTypes])(const char* src, int64_t n, float* dst);
  // dst[i] = src[i] rounded to the nearest value of the dtype, ties to even; NaN stays NaN.
  void (*narrow[kDTypes])(const float* src, int64_t n, char* dst);
  // dst[i] = x[i] rounded to the nearest bf16 value, kept as fp32.
  void (*round_bf16)(const float* x, int64_t n, float* dst);
  // out[i] = silu(gate[i]) * up[i]; out may be gate.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // out[i] = exp(scale * x[i] - shift) where scale * x[i] <= shift; returns the sum. `out` may be x.
  float (*exp_sum)(const float* x, float scale, float shift, int64_t n, float* out);
  // The largest of x[0, n); n >= 1.
  float (*max)(const float* x, int64_t n);
  // y[i] = scale * x[i], added to y[i] when accumulate is set.
  void (*scale_add)(const float* x, float scale, int64_t n, float* y, bool accumulate);
  // One head: x[0, n) divided by its root mean square and times norm[0, n), unless norm is null; then its
  // first 2 * pairs values, as halves a and b, rotated against each other: (a cos - b sin, b cos + a sin),
  // cos and sin [pairs]. 2 * pairs <= n; out may be x where nothing is rotated.
  void (*norm_rotate)(const float* x, const float* norm, float epsilon, const float* cos, const float* sin,
                      int64_t pairs, int64_t n, float* out);
  // A causal convolution of one token, channel by channel.
  void (*conv_silu)(const ConvArgs& args);
  // Updates the state in place.
  void (*delta_steps)(const DeltaArgs& args);
  PanelKernel panel[kPrecisions];                 // [Precision]
  ExpandFn expand[kCodeKinds][kPrecisions] = {};  // [CodeKind], to fp32 and to bf16
  CodeProducts code_products[kPrecisions] = {};   // [Precision]; without pack: codes are expanded first
  const IntegerKernels* integer = nullptr;
  // For matrices of bf16 weights and rounded activations, instead of `operands`, which then meet caches only;
  // without pack: there is none.
  Operand matrices = {};

  const Operand& operand(DType weights, Precision precision) const {
    return operands[DTypeIndex(weights)][static_cast<int>(FloatPart(precision))];
  }

  // What multiplies weight matrices.
  const Operand& matrix_operand(DType weights, Precision precision) const {
    const bool has_own = matrices.pack != nullptr && RoundsActivations(weights, precision);
    return has_own ? matrices : operand(weights, precision);
  }
};

// One table an instruction set, without its integer kernels; null when the binary was not built for that
// processor family.
const KernelTable* PortableTable();
const KernelTable* Avx2Table();
const KernelTable* Avx512Table();
const KernelTable* Avx512Bf16Table();
const KernelTable* Avx512VbmiTable();
const KernelTable* AmxTable();
const KernelTable* NeonTable();

// The best table this processor can run, or the one that SWITCHYARD_CPU_ISA names (portable, avx2, avx512,
// avx512_vnni, avx512_bf16, avx512_vbmi, amx, neon, neon_dotprod, neon_i8mm). Decided once; a name that is
// unknown or not available here leaves the best one and sets IsaError().
const KernelTable& Kernels();

// Name of the table in use, e.g. "avx512_bf16".
const char* IsaName();

// Why SWITCHYARD_CPU_ISA was not followed, with the remedy; empty when it was, or was not set.
const char* IsaError();

// The names this processor can run, best first; fills up to `capacity` entries and returns how many there
// are.
int AvailableIsas(const char** names, int capacity);

// Switches to the named table; false when this processor cannot run it. For tests and benchmarks: not to be
// called while a kernel runs.
bool SelectIsa(const char* name);

}  // namespace switchyard::cpu
