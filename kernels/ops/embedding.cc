#include "embedding.h"

namespace switchyard::ops {

OpSchema Embedding::Schema() { return {"Embedding", {{ort::kInt64}}, {{ort::kFloat}}}; }

Embedding::Embedding(const KernelInfo& info, const WeightStore& store)
    : table(FindMatrix(info, store, {info.Int("weight"), "weight"}, kAnyExtent, kAnyExtent)) {}

}  // namespace switchyard::ops
