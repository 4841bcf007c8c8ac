#include "top_candidates.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "../common/shape_text.h"

namespace switchyard::ops {

OpSchema TopCandidates::Schema() {
  return {"TopCandidates",
          {{ort::kFloat}, {.type = ort::kInt32, .kind = ort::kRequired, .on_host = true}},
          {{ort::kFloat}, {ort::kInt32}}};
}

TopCandidates::Sizes TopCandidates::CheckInputs(const std::string& node, const KernelContext& context,
                                                int64_t most) {
  const ort::TensorView logits = context.Input(0), count = context.Input(1);
  if (logits.shape.size() != 2 || logits.shape[1] > std::numeric_limits<int32_t>::max()) {
    throw std::runtime_error(node + ": input 'logits' has shape " + ShapeText(logits.shape) +
                             "; expected [rows, vocab]");
  }
  if (count.Count() != 1) {
    throw std::runtime_error(node + ": input 'count' has shape " + ShapeText(count.shape) +
                             "; expected a scalar");
  }
  const Sizes sizes = {logits.shape[0], logits.shape[1], *count.As<int32_t>()};
  if (sizes.count >= 0 && sizes.count <= std::min(sizes.vocab, most)) return sizes;
  throw std::runtime_error(node + ": input 'count' is " + std::to_string(sizes.count) + "; expected 0 to " +
                           (most < sizes.vocab
                                ? std::to_string(most) + ", the most that this device lists"
                                : std::to_string(sizes.vocab) + ", the number of logits of a row"));
}

}  // namespace switchyard::ops
