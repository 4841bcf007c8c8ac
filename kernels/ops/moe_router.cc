#include "moe_router.h"

namespace switchyard::ops {

OpSchema MoeRouter::Schema() {
  return {"MoeRouter", {{ort::kFloat}}, {{ort::kFloat}, {ort::kInt32}, {ort::kFloat}}};
}

MoeRouter::MoeRouter(const KernelInfo& info, const WeightStore& store)
    : precision(info.ReadPrecision()),
      weight(FindMatrix(info, store, {info.Int("weight"), "weight"}, kAnyExtent, kAnyExtent)),
      top_k(info.Int("top_k")),
      normalize(info.IntOr("normalize", 0) != 0),
      layer(info.IntOr("layer", -1)) {
  if (top_k < 1 || top_k > weight.rows) {
    info.Fail("attribute 'top_k' is " + std::to_string(top_k) + "; expected 1 to " +
              std::to_string(weight.rows) + ", the number of experts");
  }
}

}  // namespace switchyard::ops
