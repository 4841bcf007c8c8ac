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

int64_t GroupsBytes(const QuantizedTensor& q) { return RowGroups::Bytes(kRowsTogether * q.col_groups()); }

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
  return GroupsBytes(q) + CodeRowsScratch(q, kRowsTogether, weights.cols);
}

DirectBlock::DirectBlock(const CodeProducts& kernels, const KernelTable& table, const WeightMatrix& weights,
                         int64_t row0, char* scratch)
    : kernels_(&kernels), table_(&table), weights_(&weights), row0_(row0), scratch_(scratch) {}

void DirectBlock::Multiply(const char* x, int tokens, int64_t first, int64_t last, float* c,
                           int64_t c_stride) const {
  const QuantizedTensor& q = *weights_->quantized;
  const int64_t groups = q.col_groups();
  float values[16];
  for (uint32_t code = 0; code < 16; ++code) values[code] = q.bits == 4 ? CodeValue(q, code) : 0.0f;
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

}  // namespace switchyard::cpu
