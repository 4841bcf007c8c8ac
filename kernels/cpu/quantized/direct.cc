#include "direct.h"

#include <algorithm>

#include "../../common/quantized_elements.h"
#include "../product.h"
#include "code_rows.h"
#include "row_groups.h"

namespace switchyard::cpu {
namespace {

// Rows of one call of a kernel: their scales stay in the first-level cache.
constexpr int64_t kRowsTogether = 16;
// The same where rows lie side by side in words.
constexpr int64_t kWordRowsTogether = 128;
// What AutoGPTQ stores less than a zero point, in each place of a word.
constexpr uint32_t kOneEach = 0x11111111u;

int64_t GroupsBytes(const QuantizedTensor& q) { return RowGroups::Bytes(kRowsTogether * q.col_groups()); }

void ReadValues(const QuantizedTensor& q, float* values) {
  for (uint32_t code = 0; code < 16; ++code) values[code] = q.bits == 4 ? CodeValue(q, code) : 0.0f;
}

}  // namespace

bool DirectBlock::IsPossible(const KernelTable& table, const WeightMatrix& weights, Precision precision,
                             int64_t tokens) {
  const QuantizedTensor* q = weights.quantized;
  if (q == nullptr || tokens > kTileTokens || weights.transposed) return false;
  if (table.code_products[static_cast<int>(FloatPart(precision))].pack == nullptr) return false;
  if (weights.first_col != 0 || weights.cols != q->cols || q->flat() || q->column_groups != nullptr)
    return false;
  const bool has_offsets = q->zeros != nullptr || q->biases != nullptr;
  if (q->type == CodeType::kE4m3 && (has_offsets || q->zero != 0)) return false;
  if (q->type == CodeType::kTable || (q->zeros != nullptr && q->biases != nullptr)) return false;
  if (q->group_cols == 16 && q->bits == 4 && !has_offsets) return true;
  return q->group_cols % 32 == 0 || q->group_cols >= q->cols;
}

int64_t DirectBlock::Scratch(const WeightMatrix& weights) {
  const QuantizedTensor& q = *weights.quantized;
  const int64_t by_row = GroupsBytes(q) + CodeRowsScratch(q, kRowsTogether, weights.cols);
  const int64_t by_word = kWordRowsTogether * q.col_groups() * static_cast<int64_t>(sizeof(float));
  const bool in_words = q.order == CodeOrder::kColumns || q.order == CodeOrder::kAwq;
  return in_words ? std::max(by_row, by_word) : by_row;
}

DirectBlock::DirectBlock(const CodeProducts& kernels, const KernelTable& table, const WeightMatrix& weights,
                         int64_t row0, char* scratch)
    : kernels_(&kernels), table_(&table), weights_(&weights), row0_(row0), scratch_(scratch) {}

void DirectBlock::Multiply(const char* x, int tokens, int64_t first, int64_t last, float* c,
                           int64_t c_stride) const {
  const QuantizedTensor& q = *weights_->quantized;
  if (const CodeWordsFn kernel = WordsKernel(first, last); kernel != nullptr)
    return MultiplyWords(kernel, x, tokens, first, last, c, c_stride);
  const int64_t groups = q.col_groups();
  float values[16];
  ReadValues(q, values);
  const RowGroups all = RowGroups::At(scratch_, q, kRowsTogether * groups);
  for (int64_t row = first; row < last; row += kRowsTogether) {
    const int64_t count = std::min(kRowsTogether, last - row);
    const int64_t stored = weights_->first_row + row0_ + row;
    ReadGroups(*table_, q, weights_->matrix, stored, stored + count, all);
    FetchScales(q, weights_->matrix, stored + count, stored + count + kRowsTogether);
    const CodeRows codes =
        ReadCodeRows(*table_, {&q, weights_->matrix, stored, stored + count, 0, weights_->cols},
                     scratch_ + GroupsBytes(q));
    kernels_->multiply[static_cast<int>(codes.kind)]({.x = x,
                                                      .tokens = tokens,
                                                      .depth = weights_->cols,
                                                      .codes = codes.data,
                                                      .codes_stride = codes.stride,
                                                      .rows = count,
                                                      .group = q.group_cols,
                                                      .scales = all.scales,
                                                      .zeros = q.zeros != nullptr ? all.zeros : nullptr,
                                                      .biases = all.biases,
                                                      .zero = static_cast<float>(q.zero),
                                                      .groups_stride = groups,
                                                      .values = values,
                                                      .c = c + row - first,
                                                      .c_stride = c_stride});
  }
}

CodeWordsFn DirectBlock::WordsKernel(int64_t first, int64_t last) const {
  const QuantizedTensor& q = *weights_->quantized;
  const bool is_awq = q.order == CodeOrder::kAwq;
  if (!is_awq && q.order != CodeOrder::kColumns) return nullptr;
  const bool has_groups = q.group_cols % 32 == 0 || q.group_cols >= q.cols;
  if (q.bits != 4 || q.biases != nullptr || !ScalesLieAcross(q) || !has_groups || q.cols % 8 != 0)
    return nullptr;
  // Zero points are read in words, too; AWQ always has some.
  const bool has_zeros = q.zeros != nullptr;
  const ZeroOrder zero_order = is_awq ? ZeroOrder::kAwq : ZeroOrder::kColumns;
  if (has_zeros ? q.type != CodeType::kUint || q.zero_order != zero_order : is_awq) return nullptr;
  const bool begins_word = (weights_->first_row + row0_ + first) % 8 == 0;
  if (has_zeros && !begins_word) return nullptr;
  if (is_awq && (last - first) % 8 != 0) return nullptr;
  return is_awq ? kernels_->awq : kernels_->columns;
}

void DirectBlock::MultiplyWords(CodeWordsFn kernel, const char* x, int tokens, int64_t first, int64_t last,
                                float* c, int64_t c_stride) const {
  const QuantizedTensor& q = *weights_->quantized;
  const bool is_awq = q.order == CodeOrder::kAwq;
  float values[16];
  ReadValues(q, values);
  float* scales = reinterpret_cast<float*>(scratch_);
  const int64_t zeros_stride = CeilDiv(q.rows, 8) * 4;
  for (int64_t row = first; row < last; row += kWordRowsTogether) {
    const int64_t count = std::min(kWordRowsTogether, last - row);
    const int64_t stored = weights_->first_row + row0_ + row;
    for (int64_t g = 0; g < q.col_groups(); ++g) {
      float* out = scales + g * kWordRowsTogether;
      if (!is_awq) {
        ReadGroupScales(*table_, q, weights_->matrix, g, stored, stored + count, out);
        continue;
      }
      float in_order[kWordRowsTogether];
      ReadGroupScales(*table_, q, weights_->matrix, g, stored, stored + count, in_order);
      table_->transpose32(reinterpret_cast<const char*>(in_order), 32, count / 8, 8,
                          reinterpret_cast<char*>(out), kWordRowsTogether / 8 * 4);
    }
    FetchScales(q, weights_->matrix, stored + count, stored + count + kWordRowsTogether);
    const char* zeros = reinterpret_cast<const char*>(q.zeros);
    kernel({.x = x,
            .tokens = tokens,
            .depth = weights_->cols,
            .words = reinterpret_cast<const char*>(q.codes) + (is_awq ? stored / 8 : stored) * 4,
            .words_stride = (is_awq ? q.rows / 8 : q.rows) * 4,
            .rows = count,
            .group = q.group_cols,
            .scales = scales,
            .scales_stride = kWordRowsTogether,
            .values = values,
            .zero = static_cast<float>(q.zero),
            .zero_words = zeros != nullptr ? zeros + stored / 8 * 4 : nullptr,
            .zeros_stride = zeros_stride,
            .zeros_add = q.zeros_less_one ? kOneEach : 0,
            .c = c + row - first,
            .c_stride = c_stride});
  }
}

}  // namespace switchyard::cpu
