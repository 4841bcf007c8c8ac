// Scales, zero points and biases of rows of a quantized tensor as fp32.
#pragma once
#include <cstdint>

#include "../../common/quantized.h"
#include "../arch/isa.h"

namespace switchyard::cpu {

// One of each a group of columns; biases is null where the tensor has none.
struct RowGroups {
  float* scales;
  float* zeros;
  float* biases;

  // Room for `groups` of them at `memory`.
  static int64_t Bytes(int64_t groups) {
    return (groups * 3 * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
  }
  static RowGroups At(char* memory, const QuantizedTensor& tensor, int64_t groups);
};

// The scales alone of groups [group0, group1) of a row; not of a tensor whose groups cross rows.
void ReadRowScales(const KernelTable& table, const QuantizedTensor& tensor, int64_t matrix, int64_t row,
                   int64_t group0, int64_t group1, float* scales);

// The scales of rows [row0, row1): [rows][groups of a row].
void ReadScales(const KernelTable& table, const QuantizedTensor& tensor, int64_t matrix, int64_t row0,
                int64_t row1, float* scales);

// Whether the scales that neighbouring rows have for one group lie side by side.
inline bool ScalesLieAcross(const QuantizedTensor& q) { return q.group_rows == 1 && q.row_step == 1; }
// These, where they do.
void ReadGroupScales(const KernelTable& table, const QuantizedTensor& tensor, int64_t matrix, int64_t group,
                     int64_t row0, int64_t row1, float* scales);

// Has the processor fetch what the scales of rows [row0, row1) are read from. They are too few to be followed
// by its own prefetchers, and whoever reads them waits.
void FetchScales(const QuantizedTensor& tensor, int64_t matrix, int64_t row0, int64_t row1);

// Reads groups [group0, group1) of a row; not of a tensor whose groups cross rows.
void ReadRowGroups(const KernelTable& table, const QuantizedTensor& tensor, int64_t matrix, int64_t row,
                   int64_t group0, int64_t group1, const RowGroups& out);

// Reads all groups of rows [row0, row1): [rows][groups of a row]. Zero points only of a tensor that has any.
void ReadGroups(const KernelTable& table, const QuantizedTensor& tensor, int64_t matrix, int64_t row0,
                int64_t row1, const RowGroups& out);

}  // namespace switchyard::cpu
