#include "coded_contents.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "../../common/quantized_elements.h"
#include "../../cuda/coded_matrix.h"

namespace switchyard::ops {
namespace {

using cuda::CodedMatrix;
using cuda::CodeKind;
using cuda::kCodeChunk;

// The shift of an index that leaves group 0 alone.
constexpr int32_t kOneGroup = 31;

// A part of a stored matrix, seen as rows of outputs.
struct Matrix {
  explicit Matrix(const WeightRef& ref)
      : q(*ref.values->quantized), transposed(ref.transposed), rows(ref.rows), cols(ref.cols) {
    index = ref.first_row / q.rows;
    const int64_t first_row = ref.first_row % q.rows;
    first_n = transposed ? ref.first_col : first_row;
    first_k = transposed ? first_row : ref.first_col;
  }
  int64_t StoredRow(int64_t n, int64_t k) const { return transposed ? first_k + k : first_n + n; }
  int64_t StoredCol(int64_t n, int64_t k) const { return transposed ? first_n + n : first_k + k; }
  uint32_t Code(int64_t n, int64_t k) const { return CodeAt(q, index, StoredRow(n, k), StoredCol(n, k)); }
  float Element(int64_t n, int64_t k) const {
    return QuantizedElement(q, index, StoredRow(n, k), StoredCol(n, k));
  }
  // Rows, and columns, that share a scale.
  int64_t group_rows() const { return transposed ? q.group_cols : q.group_rows; }
  int64_t group_cols() const { return transposed ? q.group_rows : q.group_cols; }
  bool one_row_group() const { return first_n / group_rows() == (first_n + rows - 1) / group_rows(); }
  // Which of the stored scales belongs to a row of groups and a group in it.
  int64_t ScaleNumber(int64_t i, int64_t group) const {
    const int64_t n = first_n / group_rows() + i;
    return index * q.matrix_step + (transposed ? group : n) * q.row_step +
           (transposed ? n : group) * q.col_step;
  }

  const QuantizedTensor& q;
  bool transposed;
  int64_t rows, cols, index, first_n, first_k;
};

bool IsPowerOfTwo(int64_t value) { return std::has_single_bit(static_cast<uint64_t>(value)); }
int32_t Log2(int64_t value) { return std::countr_zero(static_cast<uint64_t>(value)); }

CodeKind KindOf(const QuantizedTensor& q) {
  switch (q.type) {
    case CodeType::kUint:
      return q.bits <= 4 ? CodeKind::kUint4 : CodeKind::kUint8;
    case CodeType::kInt:
      return CodeKind::kUint8;
    case CodeType::kE4m3:
      return CodeKind::kE4m3;
    case CodeType::kE2m1:
      return CodeKind::kE2m1;
    case CodeType::kTable:
      break;
  }
  return CodeKind::kTable4;
}

ScaleType AsScaleType(DType type) {
  if (type == DType::kFloat32) return ScaleType::kFloat32;
  return type == DType::kFloat16 ? ScaleType::kFloat16 : ScaleType::kBFloat16;
}

int64_t ScaleSize(ScaleType type) {
  if (type == ScaleType::kFloat32) return 4;
  return type == ScaleType::kFloat16 || type == ScaleType::kBFloat16 ? 2 : 1;
}

// Where the parts lie, and what they are made of.
struct Layout {
  explicit Layout(const WeightRef& ref) : matrix(ref) {
    const QuantizedTensor& q = matrix.q;
    header.kind = KindOf(q);
    header.scale_type = q.scale_type == ScaleType::kTable ? ScaleType::kFloat32 : q.scale_type;
    header.bias_type = AsScaleType(q.bias_type);
    if (matrix.one_row_group()) {
      header.row_shift = kOneGroup;
    } else {
      header.row_shift = Log2(matrix.group_rows());
      header.first_row = static_cast<int32_t>(matrix.first_n % matrix.group_rows());
      grid_rows = ((header.first_row + matrix.rows - 1) >> header.row_shift) + 1;
    }
    header.groups = 1;
    header.col_shift = kOneGroup;
    if (matrix.group_cols() < matrix.cols) {
      header.col_shift = Log2(matrix.group_cols());
      header.groups = static_cast<int32_t>(((matrix.cols - 1) >> header.col_shift) + 1);
    }
    header.has_zeros = q.zeros != nullptr;
    header.has_biases = q.biases != nullptr;
    header.zero = q.type == CodeType::kInt ? 128.0f : static_cast<float>(q.zero);
    header.factor = CommonMultiplier(q) / CommonDivisor(q);
    header.row_bytes = matrix.cols * cuda::CodeBits(header.kind) / 8;
    if (q.type == CodeType::kTable) std::memcpy(header.values, q.values, sizeof(header.values));
    const int64_t grid = grid_rows * header.groups;
    header.codes = Take(sizeof(CodedMatrix));
    header.scales = Take(matrix.rows * header.row_bytes);
    header.zeros = Take(grid * ScaleSize(header.scale_type));
    header.biases = Take(header.has_zeros != 0 ? grid : 0);
    Take(header.has_biases != 0 ? grid * ScaleSize(header.bias_type) : 0);
  }

  // Moves the end on, and says where the next part begins.
  int64_t Take(int64_t taken) {
    constexpr int64_t kPartAlignment = 16;
    bytes += (taken + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
    return bytes;
  }

  Matrix matrix;
  CodedMatrix header = {};
  int64_t grid_rows = 1;
  int64_t bytes = 0;
};

class PartOfMatrix : public Source {
 protected:
  PartOfMatrix(std::shared_ptr<const Layout> layout, int64_t count, int64_t item_bytes)
      : Source(count, item_bytes), layout_(std::move(layout)) {}
  const Layout& layout() const { return *layout_; }
  const CodedMatrix& header() const { return layout_->header; }
  const Matrix& matrix() const { return layout_->matrix; }

 private:
  std::shared_ptr<const Layout> layout_;
};

class Header final : public PartOfMatrix {
 public:
  explicit Header(const std::shared_ptr<const Layout>& layout)
      : PartOfMatrix(layout, 1, sizeof(CodedMatrix)) {}
  void Read(int64_t, int64_t, std::byte* to) const override {
    std::memcpy(to, &header(), sizeof(CodedMatrix));
  }
};

class Codes final : public PartOfMatrix {
 public:
  explicit Codes(const std::shared_ptr<const Layout>& layout)
      : PartOfMatrix(layout, layout->matrix.rows, layout->header.row_bytes),
        words_(layout->matrix.cols / kCodeChunk),
        bits_(cuda::CodeBits(layout->header.kind)) {}

  void Read(int64_t first, int64_t count, std::byte* to) const override {
    const QuantizedTensor& q = matrix().q;
    const bool same_bits = q.bits == bits_;
    if (!matrix().transposed && same_bits && q.order == CodeOrder::kRows) {
      CopyRows(first, count, to);
    } else if (!matrix().transposed && same_bits && q.order == CodeOrder::kColumns) {
      TurnWords(first, count, to);
    } else if (!matrix().transposed && q.order == CodeOrder::kAwq) {
      SortNibbles(first, count, to);
    } else if (!matrix().transposed && q.order == CodeOrder::kRowsHighFirst) {
      SwapNibbles(first, count, to);
    } else if (same_bits && bits_ == 8 && q.order == CodeOrder::kRows) {
      TurnBytes(first, count, to);
    } else {
      CopyCodes(first, count, to);
    }
    if (q.type != CodeType::kInt) return;
    for (int64_t i = 0; i < count * item_bytes(); ++i) to[i] ^= std::byte{0x80};
  }

 private:
  // Neighbouring rows that are read together where they lie side by side in the file.
  static constexpr int64_t kBlock = 128;

  void CopyRows(int64_t first, int64_t count, std::byte* to) const {
    const QuantizedTensor& q = matrix().q;
    const std::byte* from = q.codes + (matrix().index * q.rows + matrix().first_n + first) * q.row_bytes;
    for (int64_t n = 0; n < count; ++n)
      std::memcpy(to + n * item_bytes(), from + n * q.row_bytes, static_cast<size_t>(item_bytes()));
  }

  // Words [K / codes of a word, N] of GPTQ.
  void TurnWords(int64_t first, int64_t count, std::byte* to) const {
    const QuantizedTensor& q = matrix().q;
    const int64_t words = item_bytes() / 4;
    ForBlocks(count, words, [&](int64_t n, int64_t w) {
      std::memcpy(to + n * item_bytes() + w * 4, q.codes + (w * q.rows + matrix().first_n + first + n) * 4,
                  4);
    });
  }

  // Bytes [K, N].
  void TurnBytes(int64_t first, int64_t count, std::byte* to) const {
    const QuantizedTensor& q = matrix().q;
    const std::byte* from =
        q.codes + (matrix().index * q.rows + matrix().first_k) * q.row_bytes + matrix().first_n + first;
    ForBlocks(count, item_bytes(),
              [&](int64_t n, int64_t k) { to[n * item_bytes() + k] = from[k * q.row_bytes + n]; });
  }

  // AWQ's words [K, N / 8].
  void SortNibbles(int64_t first, int64_t count, std::byte* to) const {
    const QuantizedTensor& q = matrix().q;
    const int64_t row_words = q.rows / 8;
    ForBlocks(count, words_, [&](int64_t n, int64_t w) {
      const int64_t row = matrix().first_n + first + n;
      int nibble = 0;
      while (kAwqRow[nibble] != row % 8) ++nibble;
      uint32_t sorted = 0;
      for (int64_t i = 0; i < kCodeChunk; ++i) {
        const uint32_t word = LoadAt<uint32_t>(q.codes, (w * kCodeChunk + i) * row_words + row / 8);
        sorted |= (word >> (4 * nibble) & 0xfu) << (4 * i);
      }
      std::memcpy(to + n * item_bytes() + w * 4, &sorted, 4);
    });
  }

  // Rows without gaps, the high half of a byte first.
  void SwapNibbles(int64_t first, int64_t count, std::byte* to) const {
    const QuantizedTensor& q = matrix().q;
    const int64_t row = matrix().index * q.rows + matrix().first_n + first;
    const std::byte* from = q.codes + row * q.cols / 2;
    for (int64_t i = 0; i < count * item_bytes(); ++i) to[i] = from[i] << 4 | from[i] >> 4;
  }

  // Whatever the order and number of bits.
  void CopyCodes(int64_t first, int64_t count, std::byte* to) const {
    for (int64_t n = 0; n < count; ++n) {
      std::byte* row = to + n * item_bytes();
      for (int64_t k = 0; k < matrix().cols; ++k) {
        const auto code = static_cast<std::byte>(matrix().Code(first + n, k));
        if (bits_ == 8) {
          row[k] = code;
        } else {
          row[k / 2] = k % 2 == 0 ? code : row[k / 2] | code << 4;
        }
      }
    }
  }

  // body(n, w) for every row and place in it.
  template <typename Body>
  static void ForBlocks(int64_t count, int64_t width, const Body& body) {
    for (int64_t begin = 0; begin < count; begin += kBlock) {
      const int64_t end = std::min(count, begin + kBlock);
      for (int64_t w = 0; w < width; ++w) {
        for (int64_t n = begin; n < end; ++n) body(n, w);
      }
    }
  }

  int64_t words_;
  int bits_;
};

// Rows of the grid of scales, zero points or biases.
class Grid : public PartOfMatrix {
 protected:
  Grid(const std::shared_ptr<const Layout>& layout, int64_t size)
      : PartOfMatrix(layout, layout->grid_rows, layout->header.groups * size), size_(size) {}
  virtual void Write(int64_t row, int64_t group, std::byte* to) const = 0;

 private:
  void Read(int64_t first, int64_t count, std::byte* to) const final {
    for (int64_t row = first; row < first + count; ++row) {
      for (int64_t group = 0; group < header().groups; ++group, to += size_) Write(row, group, to);
    }
  }
  int64_t size_;
};

class Scales final : public Grid {
 public:
  explicit Scales(const std::shared_ptr<const Layout>& layout)
      : Grid(layout, ScaleSize(layout->header.scale_type)), size_(ScaleSize(layout->header.scale_type)) {}

 private:
  void Write(int64_t row, int64_t group, std::byte* to) const override {
    const QuantizedTensor& q = matrix().q;
    const int64_t number = matrix().ScaleNumber(row, group);
    if (q.scale_type == ScaleType::kTable) {
      const float scale = StoredScale(q, number);
      std::memcpy(to, &scale, sizeof(scale));
    } else {
      std::memcpy(to, q.scales + number * size_, static_cast<size_t>(size_));
    }
  }
  int64_t size_;
};

class Zeros final : public Grid {
 public:
  explicit Zeros(const std::shared_ptr<const Layout>& layout) : Grid(layout, 1) {}

 private:
  void Write(int64_t row, int64_t group, std::byte* to) const override {
    *to = static_cast<std::byte>(ZeroAt(matrix().q, matrix().first_n + row, group));
  }
};

class Biases final : public Grid {
 public:
  explicit Biases(const std::shared_ptr<const Layout>& layout)
      : Grid(layout, DTypeSize(layout->matrix.q.bias_type)) {}

 private:
  void Write(int64_t row, int64_t group, std::byte* to) const override {
    const QuantizedTensor& q = matrix().q;
    const int64_t size = DTypeSize(q.bias_type);
    std::memcpy(to, q.biases + matrix().ScaleNumber(row, group) * size, static_cast<size_t>(size));
  }
};

// Rows of fp32.
class ExpandedRows final : public Source {
 public:
  explicit ExpandedRows(const WeightRef& ref) : Source(ref.rows, ref.cols, DType::kFloat32), matrix_(ref) {}
  void Read(int64_t first, int64_t count, std::byte* to) const override {
    for (int64_t n = first; n < first + count; ++n) {
      for (int64_t k = 0; k < matrix_.cols; ++k, to += sizeof(float)) {
        const float element = matrix_.Element(n, k);
        std::memcpy(to, &element, sizeof(element));
      }
    }
  }

 private:
  Matrix matrix_;
};

}  // namespace

bool CanKeepCodes(const WeightRef& ref) {
  if (ref.values == nullptr || ref.values->quantized == nullptr || ref.empty()) return false;
  const Matrix matrix(ref);
  const QuantizedTensor& q = matrix.q;
  if (q.flat() || q.column_groups != nullptr || matrix.cols % kCodeChunk != 0 || matrix.first_k != 0)
    return false;
  const int64_t group = matrix.group_cols();
  const bool columns = group >= matrix.cols || (IsPowerOfTwo(group) && group >= kCodeChunk);
  const bool rows = matrix.one_row_group() || IsPowerOfTwo(matrix.group_rows());
  const bool packed_row =
      q.order != CodeOrder::kRowsHighFirst || (!matrix.transposed && q.cols == matrix.cols);
  return columns && rows && packed_row && matrix.rows <= INT32_MAX && matrix.cols <= INT32_MAX;
}

Contents CodedContents(const WeightRef& ref) {
  const auto layout = std::make_shared<const Layout>(ref);
  const CodedMatrix& header = layout->header;
  Contents contents = {{{std::make_shared<Header>(layout), 0},
                        {std::make_shared<Codes>(layout), header.codes},
                        {std::make_shared<Scales>(layout), header.scales}},
                       Aligned(layout->bytes)};
  if (header.has_zeros != 0) contents.parts.push_back({std::make_shared<Zeros>(layout), header.zeros});
  if (header.has_biases != 0) contents.parts.push_back({std::make_shared<Biases>(layout), header.biases});
  return contents;
}

Contents ExpandedContents(const WeightRef& ref, DType dtype) {
  return {{{std::make_shared<ExpandedRows>(ref), 0}}, Aligned(ref.rows * ref.cols * DTypeSize(dtype))};
}

}  // namespace switchyard::ops
