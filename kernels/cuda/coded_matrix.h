// A quantized weight matrix as it lies on a device: this header, and behind it, in the same memory, its codes
// row after row, its scales, zero points and biases. devices/cuda/coded_contents.h brings stored matrices
// into this form, whatever order their publisher chose.
#pragma once
#include <cstdint>

#include "../common/host_device.h"
#include "../common/quantized.h"

namespace switchyard::cuda {

// What a code stands for, before its zero point is subtracted.
enum class CodeKind : int32_t {
  kUint4,   // an unsigned number, as the next
  kUint8,   // signed codes are stored with 128 added, which their zero point takes away
  kE4m3,    // float8, the kind without infinities
  kE2m1,    // float4
  kTable4,  // values[code]
};

SWITCHYARD_HOST_DEVICE constexpr int CodeBits(CodeKind kind) {
  return kind == CodeKind::kUint8 || kind == CodeKind::kE4m3 ? 8 : 4;
}

// Codes that are read together: they share a scale, and rows have a multiple of so many.
constexpr int kCodeChunk = 8;
// Where the parts of a matrix may begin, and the matrix itself.
constexpr int64_t kCodedAlignment = 256;

// Element (n, k) is, in fp32, (value(code) - zero) * scale * factor + bias. Scales, zero points and biases
// lie on one grid, row after row: those of (n, k) are number (n + first_row) >> row_shift, k >> col_shift. 4
// bits: the lower half of a byte first.
struct CodedMatrix {
  CodeKind kind;
  ScaleType scale_type;  // any but kTable
  ScaleType bias_type;   // fp32, fp16 or bf16
  int32_t row_shift, col_shift;
  int32_t first_row;
  int32_t groups;  // in a row of the grid
  int32_t has_zeros, has_biases;
  float zero;    // where there are no zero points
  float factor;  // of every scale
  int64_t row_bytes;
  int64_t codes, scales, zeros, biases;  // bytes from here; zero points are one byte each
  float values[16];                      // kTable4
};
static_assert(sizeof(CodedMatrix) <= kCodedAlignment);

}  // namespace switchyard::cuda
