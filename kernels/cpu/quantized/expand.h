// Quantized weights as numbers: rows of a matrix into a panel that products of any weights read.
#pragma once
#include <cstdint>

#include "../../common/types.h"
#include "../arch/isa.h"

namespace switchyard::cpu {

// Bytes of scratch that ExpandRows takes for so many rows at a time.
int64_t ExpandScratch(const WeightMatrix& weights, int64_t rows);

// panel[r] = row row0 + r of the matrix, in fp32 as the format's formula gives it, or rounded to bf16.
// `bytes` from row to row.
void ExpandRows(const KernelTable& table, const WeightMatrix& weights, int64_t row0, int64_t row1, DType to,
                char* panel, int64_t bytes, char* scratch);

}  // namespace switchyard::cpu
