#include "embedding.h"

#include <stdexcept>

namespace switchyard::ops {

const OpSchema Embedding::kSchema = {"Embedding", {{ort::kInt64}}, {{ort::kFloat}}};

Embedding::Embedding(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info, *session.store) {}

void Embedding::Compute(KernelContext& context) {
  const ort::TensorView ids = context.Input(0);
  const WeightMatrix& table = attributes_.table;
  const int64_t count = ids.Count();
  for (int64_t i = 0; i < count; i++) {
    const int64_t id = ids.As<int64_t>()[i];
    if (id >= 0 && id < table.rows) continue;
    throw std::runtime_error(node_ + ": id " + std::to_string(id) + " at position " + std::to_string(i) +
                             " is outside the table of " + std::to_string(table.rows) + " rows");
  }
  std::vector<int64_t> shape = ids.shape;
  shape.push_back(table.cols);
  float* out = context.Output<float>(0, shape);
  if (count == 0) return;
  OrtThreadPool pool(context, session_.threads);
  cpu::EmbeddingRows(table, ids.As<int64_t>(), count, out, pool);
}

}  // namespace switchyard::ops
