#include "moe_experts.h"

#include <algorithm>
#include <stdexcept>

#include "stored_weight.h"

namespace switchyard::ops {
namespace {

constexpr int64_t kImplementations = 3;

}  // namespace

const OpSchema MoeExperts::kSchema = {
    "MoeExperts",
    {{ort::kFloat}, {ort::kInt32}, {ort::kFloat}, {ort::kInt32}, {ort::kInt64}},
    {{ort::kFloat}, {ort::kInt64}}};

MoeExperts::MoeExperts(const KernelInfo& info, SessionContext& session)
    : session_(session),
      node_(info.node()),
     
      precision_(info.ReadPrecision()),
      num_experts_(info.Int("num_experts")),
      hidden_(info.Int("hidden")),
      intermediate_(info.Int("intermediate")) {
  if (num_experts_ < 1 || hidden_ < 1 || intermediate_ < 1) {
    info.Fail("attributes num_experts, hidden, intermediate are " +
              ShapeText({num_experts_, hidden_, intermediate_}) + "; each must be at least 1");
  }
  const std::string layout = info.String("layout");
  if (layout == "separate") {
    ReadSeparate(info, *session.store);
  } else if (layout == "fused" || layout == "fused_transposed") {
    ReadFused(info, *session.store, layout == "fused_transposed");
  } else {
    info.Fail("attribute 'layout' is '" + layout + "'; expected separate, fused or fused_transposed");
  }
}

void MoeExperts::ReadSeparate(const KernelInfo& info, const WeightStore& store) {
  const std::vector<int64_t> gate = info.Ints("gate"), up = info.Ints("up"), down = info.Ints("down");
  const size_t count = static_cast<size_t>(num_experts_);
  if (gate.size() != count || up.size() != count || down.size() != count) {
    info.Fail("attributes gate, up, down have " + std::to_string(gate.size()) + ", " +
              std::to_string(up.size()) + ", " + std::to_string(down.size()) +
              " handles; layout separate needs " + std::to_string(count) + " each");
  }
  for (size_t e = 0; e < count; e++) {
    experts_.push_back({FindMatrix(info, store, {gate[e], Indexed("gate", e)}, intermediate_, hidden_),
                        FindMatrix(info, store, {up[e], Indexed("up", e)}, intermediate_, hidden_),
                        FindMatrix(info, store, {down[e], Indexed("down", e)}, hidden_, intermediate_)});
  }
}

void MoeExperts::ReadFused(const KernelInfo& info, const WeightStore& store, bool transposed) {
  const std::vector<int64_t> gate = info.Ints("gate"), down = info.Ints("down");
  if (gate.size() != 1 || down.size() != 1 || !info.IntsOrNone("up").empty()) {
    info.Fail("a fused layout needs one handle in 'gate', one in 'down' and none in 'up'");
  }
  const int64_t E = num_experts_, H = hidden_, I = intermediate_;
  using Shape = std::vector<int64_t>;
  const StoredTensor& gate_up =
      FindWeight(info, store, {gate[0], "gate[0]"}, transposed ? Shape{E, H, 2 * I} : Shape{E, 2 * I, H});
  const StoredTensor& out =
      FindWeight(info, store, {down[0], "down[0]"}, transposed ? Shape{E, I, H} : Shape{E, H, I});
  // Of an expert's 2I outputs the first half is the gate.
  const int64_t gate_up_stride = transposed ? 2 * I : H;
  const int64_t half = transposed ? I : I * H;
  for (int64_t e = 0; e < E; e++) {
    const int64_t first = e * 2 * I * H;
    experts_.push_back({Slice(gate_up, first, I, H, gate_up_stride, transposed),
                        Slice(gate_up, first + half, I, H, gate_up_stride, transposed),
                        Slice(out, e * H * I, H, I, transposed ? H : I, transposed)});
  }
}

ExpertsImplementation MoeExperts::ReadImplementation(const ort::TensorView& selector) const {
  if (selector.Count() != 1) {
    throw std::runtime_error(node_ + ": input 'implementation' has shape " + ShapeText(selector.shape) +
                             "; expected a scalar");
  }
  const int32_t value = *selector.As<int32_t>();
  if (value < 0 || value >= kImplementations) {
    throw std::runtime_error(node_ + ": input 'implementation' is " + std::to_string(value) +
                             "; expected 0 (eager), 1 (batched_mm) or 2 (grouped_mm)");
  }
  return static_cast<ExpertsImplementation>(value);
}

void MoeExperts::CheckRouting(const ort::TensorView& x, const ort::TensorView& indices,
                              const ort::TensorView& weights) const {
  CheckLast(node_, "x", x.shape, hidden_);
  const bool same_leading = indices.shape.size() == x.shape.size() &&
                            std::equal(x.shape.begin(), x.shape.end() - 1, indices.shape.begin());
  if (!same_leading || weights.shape != indices.shape) {
    throw std::runtime_error(node_ + ": indices have shape " + ShapeText(indices.shape) + " and weights " +
                             ShapeText(weights.shape) + "; both must be the leading dimensions of x " +
                             ShapeText(x.shape) + " and one number of experts a token");
  }
  const int64_t count = indices.Count();
  for (int64_t i = 0; i < count; i++) {
    const int32_t index = indices.As<int32_t>()[i];
    if (index >= 0 && index < num_experts_) continue;
    throw std::runtime_error(node_ + ": expert index " + std::to_string(index) + " at position " +
                             std::to_string(i) + " is outside [0, " + std::to_string(num_experts_) + ")");
  }
}

void MoeExperts::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0), indices = context.Input(1), weights = context.Input(2);
  const ExpertsImplementation implementation = ReadImplementation(context.Input(3));
  const ort::TensorView calls = context.Input(4);
  CheckRouting(x, indices, weights);
  if (calls.shape != std::vector<int64_t>{kImplementations}) {
    throw std::runtime_error(node_ + ": input 'calls' has shape " + ShapeText(calls.shape) +
                             "; expected [3]");
  }
  float* y = context.Output<float>(0, x.shape);
  int64_t* counted = context.Output<int64_t>(1, calls.shape);
  // The engine may place both in one buffer.
  if (counted != nullptr && counted != calls.data)
    std::copy_n(calls.As<int64_t>(), kImplementations, counted);
  if (counted != nullptr) counted[static_cast<int>(implementation)]++;

  const int64_t tokens = LeadingCount(x.shape);
  const int64_t top_k = indices.shape.back();
  if (tokens == 0) return;
  if (top_k == 0) {
    std::fill_n(y, tokens * hidden_, 0.0f);
    return;
  }
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::MoeExperts({.x = x.As<float>(),
                   .tokens = tokens,
                   .experts = experts_.data(),
                   .num_experts = num_experts_,
                   .hidden = hidden_,
                   .intermediate = intermediate_,
                   .indices = indices.As<int32_t>(),
                   .weights = weights.As<float>(),
                   .top_k = static_cast<int>(top_k),
                   .implementation = implementation,
                   .y = y,
                   .precision = precision_},
                  *workspace, pool);
}

}  // namespace switchyard::ops
