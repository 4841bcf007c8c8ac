#include "code_rows.h"

#include <cstring>

#include "../../common/quantized_elements.h"
#include "../product.h"

namespace switchyard::cpu {
namespace {

const char* Chars(const std::byte* data) { return reinterpret_cast<const char*>(data); }

CodeKind KindOf(const QuantizedTensor& q) {
  if (q.bits == 4) return CodeKind::kNibbles;
  if (q.type == CodeType::kInt) return CodeKind::kSignedBytes;
  return q.type == CodeType::kE4m3 ? CodeKind::kE4m3 : CodeKind::kBytes;
}

// Writes nibbles [0, n), given by code(i).
template <typename Code>
void PutNibbles(int64_t n, const Code& code, char* out) {
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) out[i / 2] = static_cast<char>(code(i) | code(i + 1) << 4);
  if (i < n) out[i / 2] = static_cast<char>(code(i));
}

// Rows one by one, by the specification: for codes that begin within a byte, and for odd numbers of bits.
void ReadOneByOne(const StoredBlock& b, CodeKind kind, int64_t stride, char* out) {
  for (int64_t r = 0; r < b.rows(); ++r) {
    char* row = out + r * stride;
    const auto code = [&](int64_t i) { return CodeAt(*b.tensor, b.matrix, b.row0 + r, b.col0 + i); };
    if (kind == CodeKind::kNibbles) {
      PutNibbles(b.cols(), code, row);
    } else {
      for (int64_t i = 0; i < b.cols(); ++i) row[i] = static_cast<char>(code(i));
    }
  }
}

// A row of bytes with the halves of each exchanged.
void SwapHalves(const char* in, int64_t n, char* out) {
  for (int64_t i = 0; i < n; ++i) {
    const auto byte = static_cast<unsigned char>(in[i]);
    out[i] = static_cast<char>(byte << 4 | byte >> 4);
  }
}

// Words of 8 rows and one column each, which become 8 rows of nibbles.
void ReadAwq(const KernelTable& table, const StoredBlock& b, int64_t stride, char* scratch) {
  const QuantizedTensor& q = *b.tensor;
  const int64_t words = b.rows() / 8;
  const int64_t words_stride = b.cols() * 4;
  char* turned = scratch + b.rows() * stride;
  table.transpose32(Chars(q.codes) + b.row0 / 8 * 4, q.rows / 8 * 4, b.cols(), words, turned, words_stride);
  for (int64_t w = 0; w < words; ++w) {
    const auto* in = reinterpret_cast<const std::byte*>(turned + w * words_stride);
    for (int nibble = 0; nibble < 8; ++nibble) {
      const auto code = [&](int64_t k) { return LoadAt<uint32_t>(in, k) >> (4 * nibble) & 15u; };
      PutNibbles(b.cols(), code, scratch + (w * 8 + kAwqRow[nibble]) * stride);
    }
  }
}

}  // namespace

int64_t CodeRowsScratch(const QuantizedTensor& q, int64_t rows, int64_t cols) {
  const int64_t stride = RoundUp(q.bits == 4 ? CeilDiv(cols, 2) : cols, 64);
  const int64_t turned = q.order == CodeOrder::kAwq ? cols * 4 * CeilDiv(rows, 8) : 0;
  return RoundUp(rows * stride + turned, 64);
}

CodeRows ReadCodeRows(const KernelTable& table, const StoredBlock& b, char* scratch) {
  const QuantizedTensor& q = *b.tensor;
  const CodeKind kind = KindOf(q);
  const bool is_plain_width = q.bits == 4 || q.bits == 8;
  const int64_t stride = RoundUp(q.bits == 4 ? CeilDiv(b.cols(), 2) : b.cols(), 64);
  switch (q.order) {
    case CodeOrder::kRows:
      if (!is_plain_width || b.col0 * q.bits % 8 != 0) break;
      return {Chars(q.codes) + (b.matrix * q.rows + b.row0) * q.row_bytes + b.col0 * q.bits / 8, q.row_bytes,
              kind};
    case CodeOrder::kRowsHighFirst:
      if (q.cols % 2 != 0 || b.col0 % 2 != 0) break;
      for (int64_t r = 0; r < b.rows(); ++r) {
        const int64_t first = ((b.matrix * q.rows + b.row0 + r) * q.cols + b.col0) / 2;
        SwapHalves(Chars(q.codes) + first, CeilDiv(b.cols(), 2), scratch + r * stride);
      }
      return {scratch, stride, kind};
    case CodeOrder::kColumns: {
      if (!is_plain_width || b.col0 != 0) break;
      // The words of rows, transposed.
      const char* words = Chars(q.codes) + b.row0 * 4;
      table.transpose32(words, q.rows * 4, CeilDiv(b.cols() * q.bits, 32), b.rows(), scratch, stride);
      return {scratch, stride, kind};
    }
    case CodeOrder::kAwq:
      if (b.row0 % 8 != 0 || b.row1 % 8 != 0 || b.col0 != 0) break;
      ReadAwq(table, b, stride, scratch);
      return {scratch, stride, kind};
  }
  ReadOneByOne(b, kind, stride, scratch);
  return {scratch, stride, kind};
}

}  // namespace switchyard::cpu
