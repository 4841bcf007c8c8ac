#include "moe_experts.h"

#include <algorithm>
#include <stdexcept>

namespace switchyard::ops {

OpSchema MoeExperts::Schema() {
  return {"MoeExperts",
          {{ort::kFloat},
           {ort::kInt32},
           {ort::kFloat},
           {.type = ort::kInt32, .kind = ort::kRequired, .on_host = true}},
          {{ort::kFloat}}};
}

MoeExperts::MoeExperts(const KernelInfo& info, const WeightStore& store)
    : precision(info.ReadPrecision()),
      num_experts(info.Int("num_experts")),
      hidden(info.Int("hidden")),
      intermediate(info.Int("intermediate")),
      fused(false) {
  if (num_experts < 1 || hidden < 1 || intermediate < 1) {
    info.Fail("attributes num_experts, hidden, intermediate are " +
              ShapeText({num_experts, hidden, intermediate}) + "; each must be at least 1");
  }
  const std::string layout = info.String("layout");
  if (layout == "separate") {
    ReadSeparate(info, store);
  } else if (layout == "fused" || layout == "fused_transposed") {
    ReadFused(info, store, layout == "fused_transposed");
  } else {
    info.Fail("attribute 'layout' is '" + layout + "'; expected separate, fused or fused_transposed");
  }
  ReadShared(info, store);
}

void MoeExperts::ReadShared(const KernelInfo& info, const WeightStore& store) {
  const int64_t handle = info.IntOr("shared_gate", kNoWeight);
  if (handle == kNoWeight) return;
  const WeightRef gate = FindMatrix(info, store, {handle, "shared_gate"}, kAnyExtent, hidden);
  const WeightRef up = FindMatrix(info, store, {info.Int("shared_up"), "shared_up"}, gate.rows, hidden);
  const WeightRef down = FindMatrix(info, store, {info.Int("shared_down"), "shared_down"}, hidden, gate.rows);
  shared = {{gate, up, down}, {}};
  const int64_t output_gate = info.IntOr("shared_output_gate", kNoWeight);
  if (output_gate == kNoWeight) return;
  shared->output_gate = FindMatrix(info, store, {output_gate, "shared_output_gate"}, 1, hidden);
}

void MoeExperts::ReadSeparate(const KernelInfo& info, const WeightStore& store) {
  const std::vector<int64_t> gate = info.Ints("gate"), up = info.Ints("up"), down = info.Ints("down");
  const size_t count = static_cast<size_t>(num_experts);
  if (gate.size() != count || up.size() != count || down.size() != count) {
    info.Fail("attributes gate, up, down have " + std::to_string(gate.size()) + ", " +
              std::to_string(up.size()) + ", " + std::to_string(down.size()) +
              " handles; layout separate needs " + std::to_string(count) + " each");
  }
  for (size_t e = 0; e < count; e++) {
    experts.push_back({FindMatrix(info, store, {gate[e], Indexed("gate", e)}, intermediate, hidden),
                       FindMatrix(info, store, {up[e], Indexed("up", e)}, intermediate, hidden),
                       FindMatrix(info, store, {down[e], Indexed("down", e)}, hidden, intermediate)});
  }
}

void MoeExperts::ReadFused(const KernelInfo& info, const WeightStore& store, bool transposed) {
  const std::vector<int64_t> gate = info.Ints("gate"), down = info.Ints("down");
  if (gate.size() != 1 || down.size() != 1 || !info.IntsOrNone("up").empty()) {
    info.Fail("a fused layout needs one handle in 'gate', one in 'down' and none in 'up'");
  }
  const int64_t E = num_experts, H = hidden, I = intermediate;
  using Shape = std::vector<int64_t>;
  const StoredTensor& gate_up =
      FindWeight(info, store, {gate[0], "gate[0]"}, transposed ? Shape{E, H, 2 * I} : Shape{E, 2 * I, H});
  const StoredTensor& out =
      FindWeight(info, store, {down[0], "down[0]"}, transposed ? Shape{E, I, H} : Shape{E, H, I});
  fused = true;
  // Of an expert's 2I outputs the first half is the gate: rows of the tensor, or columns where it is
  // transposed.
  for (int64_t e = 0; e < E; e++) {
    WeightRef first_half = {.values = &gate_up,
                            .first_row = transposed ? e * H : e * 2 * I,
                            .first_col = 0,
                            .rows = I,
                            .cols = H,
                            .stride = transposed ? 2 * I : H,
                            .transposed = transposed};
    WeightRef second_half = first_half;
    (transposed ? second_half.first_col : second_half.first_row) += I;
    const WeightRef back = {.values = &out,
                            .first_row = e * (transposed ? I : H),
                            .first_col = 0,
                            .rows = H,
                            .cols = I,
                            .stride = transposed ? H : I,
                            .transposed = transposed};
    experts.push_back({first_half, second_half, back});
  }
}

ExpertsImplementation MoeExperts::CheckImplementation(const std::string& node,
                                                      const ort::TensorView& selector) const {
  if (selector.Count() != 1) {
    throw std::runtime_error(node + ": input 'implementation' has shape " + ShapeText(selector.shape) +
                             "; expected a scalar");
  }
  const int32_t value = *selector.As<int32_t>();
  if (value < 0 || value >= kImplementations) {
    throw std::runtime_error(node + ": input 'implementation' is " + std::to_string(value) +
                             "; expected 0 (eager), 1 (batched_mm) or 2 (grouped_mm)");
  }
  return static_cast<ExpertsImplementation>(value);
}

void MoeExperts::CheckShapes(const std::string& node, const ort::TensorView& x,
                             const ort::TensorView& indices, const ort::TensorView& weights) const {
  CheckLast(node, "x", x.shape, hidden);
  const bool same_leading = indices.shape.size() == x.shape.size() &&
                            std::equal(x.shape.begin(), x.shape.end() - 1, indices.shape.begin());
  if (!same_leading || weights.shape != indices.shape) {
    throw std::runtime_error(node + ": indices have shape " + ShapeText(indices.shape) + " and weights " +
                             ShapeText(weights.shape) + "; both must be the leading dimensions of x " +
                             ShapeText(x.shape) + " and one number of experts a token");
  }
}

}  // namespace switchyard::ops
