#include "expand.h"

#include <algorithm>

#include "../../common/quantized_elements.h"
#include "../product.h"
#include "code_rows.h"
#include "row_groups.h"

namespace switchyard::cpu {
namespace {

// Stored rows that are turned together where a matrix lies transposed.
constexpr int64_t kBand = 16;

// What nibbles stand for.
void ReadValues(const QuantizedTensor& q, float* values) {
  for (uint32_t code = 0; code < 16; ++code) values[code] = q.bits == 4 ? CodeValue(q, code) : 0.0f;
}

// Whether the groups of a row are pieces of equal length, side by side.
bool HasSimpleGroups(const QuantizedTensor& q) { return !q.flat() && q.column_groups == nullptr; }

// Expands blocks of stored rows, in memory that it is given.
class Expander {
 public:
  static int64_t Scratch(const QuantizedTensor& q, int64_t rows, int64_t cols) {
    return CodeRowsScratch(q, rows, cols) + RowGroups::Bytes(Groups(q, cols)) + WideBytes(q, cols);
  }

  Expander(const KernelTable& table, const QuantizedTensor& q, int64_t rows, int64_t cols, char* scratch)
      : table_(table), q_(q), codes_(scratch) {
    char* next = scratch + CodeRowsScratch(q, rows, cols);
    groups_ = RowGroups::At(next, q, Groups(q, cols));
    wide_ = reinterpret_cast<float*>(next + RowGroups::Bytes(Groups(q, cols)));
    ReadValues(q, values_);
  }

  void Expand(const StoredBlock& block, DType to, char* out, int64_t bytes) {
    const CodeRows codes = ReadCodeRows(table_, block, codes_);
    for (int64_t r = 0; r < block.rows(); ++r) {
      const char* row = codes.data + r * codes.stride;
      if (HasSimpleGroups(q_)) {
        ExpandRow(block, r, row, codes.kind, to, out + r * bytes);
      } else {
        ExpandScattered(block, r, row, codes.kind, to, out + r * bytes);
      }
    }
  }

 private:
  // At most so many groups meet `cols` columns.
  static int64_t Groups(const QuantizedTensor& q, int64_t cols) {
    if (!HasSimpleGroups(q)) return q.flat() ? 1 : q.col_groups();
    return std::min(q.col_groups(), cols / q.group_cols + 2);
  }

  static int64_t WideBytes(const QuantizedTensor& q, int64_t cols) {
    return HasSimpleGroups(q) ? 0 : RoundUp(cols * static_cast<int64_t>(sizeof(float)), 64);
  }

  ExpandFn Function(CodeKind kind, DType to) const {
    return table_.expand[static_cast<int>(kind)][to == DType::kBFloat16 ? 1 : 0];
  }

  void ExpandRow(const StoredBlock& b, int64_t r, const char* codes, CodeKind kind, DType to, char* out) {
    const int64_t first = b.col0 / q_.group_cols;
    ReadRowGroups(table_, q_, b.matrix, b.row0 + r, first, CeilDiv(b.col1, q_.group_cols), groups_);
    Function(kind, to)({codes, b.cols(), q_.group_cols, b.col0 % q_.group_cols, groups_.scales, groups_.zeros,
                        groups_.biases, values_, out});
  }

  // Groups whose columns lie anywhere, or that go on from row to row: the values of codes first, then each
  // column's own scale.
  void ExpandScattered(const StoredBlock& b, int64_t r, const char* codes, CodeKind kind, DType to,
                       char* out) {
    const float one = 1.0f;
    const float zero = 0.0f;
    Function(kind, DType::kFloat32)(
        {codes, b.cols(), b.cols(), 0, &one, &zero, nullptr, values_, reinterpret_cast<char*>(wide_)});
    const int64_t row = b.row0 + r;
    if (!q_.flat()) ReadRowGroups(table_, q_, b.matrix, row, 0, q_.col_groups(), groups_);
    const int64_t first = (b.matrix * q_.rows + row) * q_.cols + b.col0;
    for (int64_t i = 0; i < b.cols(); ++i) {
      if (q_.flat()) {
        const int64_t index = (first + i) / q_.group_cols;
        wide_[i] = (wide_[i] - static_cast<float>(q_.zero)) * ScaleAt(q_, index);
        if (q_.biases != nullptr) wide_[i] += BiasAt(q_, index);
      } else {
        const int64_t group = ColumnGroup(q_, b.col0 + i);
        wide_[i] = (wide_[i] - groups_.zeros[group]) * groups_.scales[group];
        if (q_.biases != nullptr) wide_[i] += groups_.biases[group];
      }
    }
    table_.narrow[DTypeIndex(to)](wide_, b.cols(), out);
  }

  const KernelTable& table_;
  const QuantizedTensor& q_;
  char* codes_;
  RowGroups groups_;
  float* wide_;
  float values_[16];
};

int64_t BandStride(int64_t columns) { return RoundUp(columns * static_cast<int64_t>(sizeof(float)), 64); }

}  // namespace

int64_t ExpandScratch(const WeightMatrix& weights, int64_t rows) {
  const QuantizedTensor& q = *weights.quantized;
  if (!weights.transposed) return Expander::Scratch(q, rows, weights.cols);
  return Expander::Scratch(q, kBand, rows) + kBand * BandStride(rows);
}

void ExpandRows(const KernelTable& table, const WeightMatrix& weights, int64_t row0, int64_t row1, DType to,
                char* panel, int64_t bytes, char* scratch) {
  const QuantizedTensor& q = *weights.quantized;
  const int64_t rows = row1 - row0;
  if (!weights.transposed) {
    const int64_t first = weights.first_row + row0;
    const StoredBlock block = {&q,           weights.matrix,    first,
                               first + rows, weights.first_col, weights.first_col + weights.cols};
    Expander(table, q, rows, weights.cols, scratch).Expand(block, to, panel, bytes);
    return;
  }
  const int64_t size = DTypeSize(to);
  const int64_t stride = BandStride(rows);
  const TransposeFn transpose = size == 2 ? table.transpose16 : table.transpose32;
  char* band = scratch + Expander::Scratch(q, kBand, rows);
  Expander expander(table, q, kBand, rows, scratch);
  const int64_t col0 = weights.first_col + row0;
  for (int64_t k = 0; k < weights.cols; k += kBand) {
    const int64_t count = std::min(kBand, weights.cols - k);
    const int64_t first = weights.first_row + k;
    expander.Expand({&q, weights.matrix, first, first + count, col0, col0 + rows}, to, band, stride);
    transpose(band, stride, count, rows, panel + k * size, bytes);
  }
}

}  // namespace switchyard::cpu
