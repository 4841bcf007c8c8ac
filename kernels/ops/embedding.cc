#include "embedding.h"

namespace switchyard::ops {

OpSchema Embedding::Schema() { return {"Embedding", {{ort::kInt64}}, {{ort::kFloat}}}; }

Embedding::Embedding(const KernelInfo& info, const WeightStore& store)
    : parts{FindMatrix(info, store, {info.Int("weight"), "weight"}, kAnyExtent, kAnyExtent)},
      on_host(info.IntOr("on_host", 0) != 0) {
  const std::vector<int64_t> more = info.IntsOrNone("parts");
  for (size_t i = 0; i < more.size(); i++) {
    const WeightAttribute attribute = {more[i], Indexed("parts", i)};
    if (parts.back().rows != parts.front().rows)
      info.Fail("attribute '" + attribute.name + "' follows a table of " + std::to_string(parts.back().rows) +
                " rows; all but the last have " + std::to_string(parts.front().rows));
    const WeightRef part = FindMatrix(info, store, attribute, kAnyExtent, parts.front().cols);
    if (part.rows > parts.front().rows)
      info.Fail("attribute '" + attribute.name + "' has " + std::to_string(part.rows) +
                " rows; expected at most " + std::to_string(parts.front().rows));
    parts.push_back(part);
  }
}

int64_t Embedding::Rows() const {
  return static_cast<int64_t>(parts.size() - 1) * parts.front().rows + parts.back().rows;
}

}  // namespace switchyard::ops
