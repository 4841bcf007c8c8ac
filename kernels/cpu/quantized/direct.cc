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
// The same where rows lie side by side.
constexpr int64_t kColumnsTogether = 128;

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
  const int64_t by_column = kColumnsTogether * q.col_groups() * static_cast<int64_t>(sizeof(float));
  return q.order == CodeOrder::kColumns ? std::max(by_row, by_column) : by_row;
}

DirectBlock::DirectBlock(const CodeProducts& kernels, const KernelTable& table, const WeightMatrix& weights,
                         int64_t row0, char* scratch)
    : kernels_(&kernels), table_(&table), weights_(&weights), row0_(row0), scratch_(scratch) {}

void DirectBlock::Multiply(const char* x, int tokens, int64_t first, int64_t last, float* c,
                           int64_t c_stride) const {
  const QuantizedTensor& q = *weights_->quantized;
  if (LiesInColumns()) return MultiplyColumns(x, tokens, first, last, c, c_stride);
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

bool DirectBlock::LiesInColumns() const {
  const QuantizedTensor& q = *weights_->quantized;
  const bool is_plain = q.zeros == nullptr && q.biases == nullptr && ScalesLieAcross(q);
  const bool has_groups = q.group_cols % 32 == 0 || q.group_cols >= q.cols;
  return kernels_->columns != nullptr && q.order == CodeOrder::kColumns && q.bits == 4 && is_plain &&
         has_groups && q.cols % 8 == 0;
}

void DirectBlock::MultiplyColumns(const char* x, int tokens, int64_t first, int64_t last, float* c,
                                  int64_t c_stride) const {
  const QuantizedTensor& q = *weights_->quantized;
  float values[16];
  ReadValues(q, values);
  float* scales = reinterpret_cast<float*>(scratch_);
  for (int64_t row = first; row < last; row += kColumnsTogether) {
    const int64_t count = std::min(kColumnsTogether, last - row);
    const int64_t stored = weights_->first_row + row0_ + row;
    for (int64_t g = 0; g < q.col_groups(); ++g)
      ReadGroupScales(*table_, q, weights_->matrix, g, stored, stored + count, scales + g * kColumnsTogether);
    FetchScales(q, weights_->matrix, stored + count, stored + count + kColumnsTogether);
    kernels_->columns({.x = x,
                       .tokens = tokens,
                       .depth = weights_->cols,
                       .words = reinterpret_cast<const char*>(q.codes) + stored * 4,
                       .words_stride = q.rows * 4,
                       .rows = count,
                       .group = q.group_cols,
                       .scales = scales,
                       .scales_stride = kColumnsTogether,
                       .values = values,
                       .zero = static_cast<float>(q.zero),
                       .c = c + row - first,
                       .c_stride = c_stride});
  }
}

}  // namespace switchyard::cpu
