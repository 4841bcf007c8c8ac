#include <vector>

#include "../common/float_types.h"
#include "arch/isa.h"
#include "kernels.h"
#include "parallel.h"
#include "quantized/expand.h"
#include "widen.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kInlineValues = 64 * 1024;

// Row `id` of a table of codes.
void ExpandRow(const WeightMatrix& table, int64_t id, float* out) {
  std::vector<char> scratch(static_cast<size_t>(ExpandScratch(table, 1)));
  ExpandRows(Kernels(), table, id, id + 1, DType::kFloat32, reinterpret_cast<char*>(out), 0, scratch.data());
}

// Row `id` of a table whose columns lie apart.
void GatherTransposedRow(const WeightMatrix& table, int64_t id, float* out) {
  const char* data = static_cast<const char*>(table.data);
  const int64_t size = DTypeSize(table.dtype);
  for (int64_t k = 0; k < table.cols; ++k) {
    out[k] = LoadElement(data + (k * table.stride + id) * size, table.dtype);
  }
}

}  // namespace

void Widen(const void* src, DType dtype, int64_t count, float* dst) {
  Kernels().widen[DTypeIndex(dtype)](static_cast<const char*>(src), count, dst);
}

void EmbeddingRows(const WeightMatrix* parts, const int64_t* ids, int64_t count, float* out,
                   ThreadPool& pool) {
  const auto copy = [&](int64_t, int64_t i) {
    const WeightMatrix& table = parts[ids[i] / parts->rows];
    const int64_t id = ids[i] % parts->rows;
    float* row = out + i * table.cols;
    if (table.quantized != nullptr) return ExpandRow(table, id, row);
    if (table.transposed) return GatherTransposedRow(table, id, row);
    Widen(static_cast<const char*>(table.data) + id * table.stride * DTypeSize(table.dtype), table.dtype,
          table.cols, row);
  };
  if (count * parts->cols <= kInlineValues) {
    for (int64_t i = 0; i < count; ++i) copy(0, i);
  } else {
    ParallelItems(pool, count, copy);
  }
}

}  // namespace switchyard::cpu
