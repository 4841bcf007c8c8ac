#include "round_weights.h"

#include <stdexcept>
#include <string>

#include "../common/quantized_elements.h"
#include "../cpu/rounding.h"
#include "../cpu/widen.h"
#include "../weights/widen.h"

namespace switchyard {
namespace {

constexpr int64_t kRowsOfZeroWord = 8;
constexpr int64_t kGroupUnit = 8, kMaxGroup = 1024;

// One element of a stored tensor, seen as matrices.
class Elements {
 public:
  explicit Elements(const StoredTensor& tensor) : tensor_(tensor) {
    const std::vector<int64_t>& shape = tensor.shape;
    if (shape.size() < 2 || shape.size() > 3) throw std::invalid_argument("it has no rows and columns");
    matrices_ = shape.size() == 3 ? shape[0] : 1;
    rows_ = shape[shape.size() - 2];
    cols_ = shape.back();
  }

  bool Has(const RoundRequest& r) const {
    const int64_t rows = r.transposed ? r.cols : r.rows, cols = r.transposed ? r.rows : r.cols;
    const auto fits = [](int64_t first, int64_t count, int64_t all) {
      return first >= 0 && count > 0 && first <= all && count <= all - first;
    };
    return fits(r.matrix, 1, matrices_) && fits(r.first_row, rows, rows_) && fits(r.first_col, cols, cols_);
  }

  // Row n of the rows asked for.
  void ReadRow(const RoundRequest& r, int64_t n, float* out) const {
    const int64_t row = r.first_row + (r.transposed ? 0 : n), col = r.first_col + (r.transposed ? n : 0);
    if (tensor_.quantized == nullptr && !r.transposed) {
      const auto type = static_cast<DType>(tensor_.type);
      cpu::Widen(tensor_.data + ((r.matrix * rows_ + row) * cols_ + col) * DTypeSize(type), type, r.cols,
                 out);
      return;
    }
    const int64_t down = r.transposed ? 1 : 0;
    for (int64_t k = 0; k < r.cols; ++k) out[k] = At(r.matrix, row + down * k, col + (1 - down) * k);
  }

 private:
  float At(int64_t matrix, int64_t row, int64_t col) const {
    if (tensor_.quantized != nullptr) return QuantizedElement(*tensor_.quantized, matrix, row, col);
    const auto type = static_cast<DType>(tensor_.type);
    return LoadElement(tensor_.data + ((matrix * rows_ + row) * cols_ + col) * DTypeSize(type), type);
  }

  const StoredTensor& tensor_;
  int64_t matrices_ = 1, rows_ = 0, cols_ = 0;
};

void Check(const StoredTensor& tensor, const Elements& elements, const RoundRequest& r) {
  const auto refuse = [&](const std::string& why) {
    throw std::invalid_argument("tensor '" + tensor.name + "' cannot be rounded: " + why);
  };
  if (!IsWeight(tensor)) refuse("it holds no float weights");
  if (!elements.Has(r)) refuse("it has no such rows");
  if (r.bits == 8 && !r.zero_points) return;
  if (r.bits != 4) refuse(std::to_string(r.bits) + " bits are not served");
  if (r.group <= 0 || r.group % kGroupUnit != 0 || r.group > kMaxGroup || r.cols % r.group != 0)
    refuse("groups of " + std::to_string(r.group) + " do not divide " + std::to_string(r.cols) + " columns");
}

class Rounder {
 public:
  Rounder(const RoundRequest& r, RoundedRows& out)
      : r_(r),
        out_(out),
        groups_(r.bits == 4 ? r.cols / r.group : 1),
        row_zeros_(static_cast<size_t>(groups_)) {
    out.codes.resize(static_cast<size_t>(r.rows * r.cols * r.bits / 8));
    out.scales.resize(static_cast<size_t>(r.rows * groups_ * (r.bits == 4 ? 2 : 4)));
    if (r.zero_points)
      out.zeros.resize(static_cast<size_t>((r.rows + kRowsOfZeroWord - 1) / kRowsOfZeroWord * groups_ * 4));
  }

  bool Round(int64_t n, const float* row) {
    std::byte* codes = out_.codes.data() + n * r_.cols * r_.bits / 8;
    if (r_.bits == 8) {
      auto* scales = reinterpret_cast<float*>(out_.scales.data());
      return cpu::RoundToInt8(row, r_.cols, reinterpret_cast<int8_t*>(codes), scales + n);
    }
    auto* scales = reinterpret_cast<uint16_t*>(out_.scales.data());
    const cpu::Int4Scheme scheme = {.group = r_.group, .zero_points = r_.zero_points};
    if (!cpu::RoundToInt4(row, r_.cols, scheme, reinterpret_cast<uint8_t*>(codes), scales + n * groups_,
                          row_zeros_.data()))
      return false;
    if (r_.zero_points) PackZeros(n);
    return true;
  }

 private:
  void PackZeros(int64_t n) {
    auto* words = reinterpret_cast<uint32_t*>(out_.zeros.data()) + n / kRowsOfZeroWord * groups_;
    const auto shift = static_cast<uint32_t>(n % kRowsOfZeroWord * 4);
    for (int64_t g = 0; g < groups_; ++g)
      words[g] |= static_cast<uint32_t>(row_zeros_[static_cast<size_t>(g)]) << shift;
  }

  const RoundRequest& r_;
  RoundedRows& out_;
  int64_t groups_;
  std::vector<uint8_t> row_zeros_;
};

}  // namespace

RoundedRows RoundWeights(const WeightStore& store, const RoundRequest& request) {
  const StoredTensor& tensor = store.Get(request.handle);
  const Elements elements(tensor);
  Check(tensor, elements, request);
  RoundedRows rounded;
  Rounder rounder(request, rounded);
  std::vector<float> row(static_cast<size_t>(request.cols));
  for (int64_t n = 0; n < request.rows; ++n) {
    elements.ReadRow(request, n, row.data());
    if (!rounder.Round(n, row.data()))
      throw WeightFileError(tensor.file->path() + ": tensor '" + tensor.name +
                            "' has a weight that is no finite number");
  }
  store.CheckUnchanged();
  return rounded;
}

}  // namespace switchyard
