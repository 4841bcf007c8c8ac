#include "linear.h"

namespace switchyard::ops {

OpSchema Linear::Schema() { return {"Linear", {{ort::kFloat}}, {{ort::kFloat, ort::kVariadic}}}; }

Linear::Linear(const KernelInfo& info, const WeightStore& store) : precision(info.ReadPrecision()) {
  const std::vector<int64_t> handles = info.Ints("weights");
  std::vector<int64_t> bias_handles = info.IntsOrNone("biases");
  if (bias_handles.empty()) bias_handles.assign(handles.size(), kNoWeight);
  if (bias_handles.size() != handles.size() || info.OutputCount() != handles.size()) {
    info.Fail("has " + std::to_string(handles.size()) + " weights, " + std::to_string(bias_handles.size()) +
              " biases and " + std::to_string(info.OutputCount()) +
              " outputs; expected one of each a weight");
  }
  for (size_t i = 0; i < handles.size(); i++) {
    const int64_t cols = i == 0 ? kAnyExtent : weights[0].cols;
    weights.push_back(FindMatrix(info, store, {handles[i], Indexed("weights", i)}, kAnyExtent, cols));
    biases.push_back(FindBias(info, store, {bias_handles[i], Indexed("biases", i)}, weights[i].rows));
  }
}

}  // namespace switchyard::ops
