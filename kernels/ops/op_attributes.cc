#include "op_attributes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace switchyard::ops {
namespace {

constexpr int64_t kImplementations = 3;

// What the kernels of every device can walk over.
constexpr int64_t kLeastBlockSize = 16;

}  // namespace

LinearAttributes::LinearAttributes(const KernelInfo& info, const WeightStore& store)
    : precision(info.ReadPrecision()) {
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

EmbeddingAttributes::EmbeddingAttributes(const KernelInfo& info, const WeightStore& store)
    : table(FindMatrix(info, store, {info.Int("weight"), "weight"}, kAnyExtent, kAnyExtent)) {}

GatedMlpAttributes::GatedMlpAttributes(const KernelInfo& info, const WeightStore& store)
    : precision(info.ReadPrecision()) {
  gate = FindMatrix(info, store, {info.Int("gate"), "gate"}, kAnyExtent, kAnyExtent);
  up = FindMatrix(info, store, {info.Int("up"), "up"}, gate.rows, gate.cols);
  down = FindMatrix(info, store, {info.Int("down"), "down"}, gate.cols, gate.rows);
  const int64_t handle = info.IntOr("output_gate", kNoWeight);
  if (handle != kNoWeight) output_gate = FindMatrix(info, store, {handle, "output_gate"}, 1, gate.cols);
}

MoeRouterAttributes::MoeRouterAttributes(const KernelInfo& info, const WeightStore& store)
    : precision(info.ReadPrecision()),
      weight(FindMatrix(info, store, {info.Int("weight"), "weight"}, kAnyExtent, kAnyExtent)),
      top_k(info.Int("top_k")),
      normalize(info.IntOr("normalize", 0) != 0) {
  if (top_k < 1 || top_k > weight.rows) {
    info.Fail("attribute 'top_k' is " + std::to_string(top_k) + "; expected 1 to " +
              std::to_string(weight.rows) + ", the number of experts");
  }
}

MoeExpertsAttributes::MoeExpertsAttributes(const KernelInfo& info, const WeightStore& store)
    : precision(info.ReadPrecision()),
      num_experts(info.Int("num_experts")),
      hidden(info.Int("hidden")),
      intermediate(info.Int("intermediate")) {
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
}

void MoeExpertsAttributes::ReadSeparate(const KernelInfo& info, const WeightStore& store) {
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

void MoeExpertsAttributes::ReadFused(const KernelInfo& info, const WeightStore& store, bool transposed) {
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
  // Of an expert's 2I outputs the first half is the gate.
  const int64_t gate_up_stride = transposed ? 2 * I : H;
  const int64_t half = transposed ? I : I * H;
  for (int64_t e = 0; e < E; e++) {
    const int64_t first = e * 2 * I * H;
    experts.push_back({Slice(gate_up, first, I, H, gate_up_stride, transposed),
                       Slice(gate_up, first + half, I, H, gate_up_stride, transposed),
                       Slice(out, e * H * I, H, I, transposed ? H : I, transposed)});
  }
}

ExpertsImplementation MoeExpertsAttributes::CheckImplementation(const std::string& node,
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

void MoeExpertsAttributes::CheckShapes(const std::string& node, const ort::TensorView& x,
                                       const ort::TensorView& indices, const ort::TensorView& weights,
                                       const ort::TensorView& calls) const {
  CheckLast(node, "x", x.shape, hidden);
  const bool same_leading = indices.shape.size() == x.shape.size() &&
                            std::equal(x.shape.begin(), x.shape.end() - 1, indices.shape.begin());
  if (!same_leading || weights.shape != indices.shape) {
    throw std::runtime_error(node + ": indices have shape " + ShapeText(indices.shape) + " and weights " +
                             ShapeText(weights.shape) + "; both must be the leading dimensions of x " +
                             ShapeText(x.shape) + " and one number of experts a token");
  }
  if (calls.shape != std::vector<int64_t>{kImplementations}) {
    throw std::runtime_error(node + ": input 'calls' has shape " + ShapeText(calls.shape) + "; expected [3]");
  }
}

AttentionAttributes::AttentionAttributes(const KernelInfo& info)
    : heads(info.Int("num_heads")),
      kv_heads(info.Int("kv_num_heads")),
      scale(info.Float("scale")),
      precision(info.ReadPrecision()) {
  if (kv_heads < 1 || heads < 1 || heads % kv_heads != 0) {
    info.Fail("attribute 'num_heads' is " + std::to_string(heads) +
              "; expected a positive multiple of 'kv_num_heads', " + std::to_string(kv_heads));
  }
  if (!std::isfinite(scale) || scale < 0.0f) {
    info.Fail("attribute 'scale' is " + std::to_string(scale) + "; expected a number that is not negative");
  }
}

namespace {

const StoredTensor* FindNorm(const KernelInfo& info, const WeightStore& store, const char* name) {
  const int64_t handle = info.IntOr(name, kNoWeight);
  return handle == kNoWeight ? nullptr : &FindWeight(info, store, {handle, name}, {kAnyExtent});
}

void CheckNorm(const std::string& node, const char* name, const StoredTensor* norm, int64_t head_dim) {
  if (norm == nullptr || norm->shape[0] == head_dim) return;
  throw std::runtime_error(node + ": attribute '" + name + "': tensor '" + norm->name + "' has shape " +
                           ShapeText(norm->shape) + ", but a head has " + std::to_string(head_dim) +
                           " values");
}

}  // namespace

CachedAttentionAttributes::CachedAttentionAttributes(const KernelInfo& info, const WeightStore& store)
    : AttentionAttributes(info),
      window(info.IntOr("window", -1)),
      epsilon(info.FloatOr("epsilon", 0.0f)),
      q_norm(FindNorm(info, store, "q_norm")),
      k_norm(FindNorm(info, store, "k_norm")) {
  if (window != -1 && window < 1) {
    info.Fail("attribute 'window' is " + std::to_string(window) + "; expected at least 1, or -1 for none");
  }
}

CachedAttentionAttributes::Sizes CachedAttentionAttributes::CheckShapes(const std::string& node,
                                                                        const KernelContext& context) const {
  const std::vector<int64_t> q = context.Input(kQ).shape;
  const std::vector<int64_t> cos = context.Input(kCos).shape;
  const std::vector<int64_t> past = context.Input(kPastKey).shape;
  const std::vector<int64_t> lengths = context.Input(kPastLengths).shape;
  const std::vector<int64_t> tables = context.Input(kBlockTables).shape;
  const Sizes sizes = {.tokens = q.empty() ? 0 : q[0],
                       .rows = lengths.empty() ? 0 : lengths[0],
                       .head_dim = HeadSize(node, "q", q, "[tokens", heads),
                       .rotated = cos.size() == 2 ? cos[1] : 0,
                       .blocks = past.empty() ? 0 : past[0],
                       .block_size = past.size() == 4 ? past[2] : 0,
                       .max_blocks = tables.size() == 2 ? tables[1] : 0};
  const std::vector<int64_t> fresh = {sizes.tokens, kv_heads * sizes.head_dim};
  const std::vector<int64_t> angles = {sizes.tokens, sizes.rotated};
  const std::vector<int64_t> cache = {sizes.blocks, kv_heads, sizes.block_size, sizes.head_dim};
  CheckShape(node, "k", context.Input(kK).shape, fresh);
  CheckShape(node, "v", context.Input(kV).shape, fresh);
  CheckShape(node, "cos", cos, angles);
  CheckShape(node, "sin", context.Input(kSin).shape, angles);
  CheckShape(node, "past_key", past, cache);
  CheckShape(node, "past_value", context.Input(kPastValue).shape, cache);
  CheckShape(node, "past_lengths", lengths, {sizes.rows});
  CheckShape(node, "row_starts", context.Input(kRowStarts).shape, {sizes.rows + 1});
  CheckShape(node, "block_tables", tables, {sizes.rows, sizes.max_blocks});
  if (2 * sizes.rotated > sizes.head_dim) {
    throw std::runtime_error(node + ": input 'cos' has " + std::to_string(sizes.rotated) +
                             " angles a token, which turn twice as many values; a head has " +
                             std::to_string(sizes.head_dim));
  }
  if (sizes.block_size < kLeastBlockSize || !std::has_single_bit(static_cast<uint64_t>(sizes.block_size))) {
    throw std::runtime_error(node + ": input 'past_key' has blocks of " + std::to_string(sizes.block_size) +
                             " positions; expected a power of two from " + std::to_string(kLeastBlockSize) +
                             " on");
  }
  CheckNorm(node, "q_norm", q_norm, sizes.head_dim);
  CheckNorm(node, "k_norm", k_norm, sizes.head_dim);
  return sizes;
}

int64_t HeadSize(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                 const char* leading, int64_t heads) {
  const size_t rank = static_cast<size_t>(std::count(leading, leading + std::strlen(leading), ',')) + 2;
  if (shape.size() == rank && shape.back() > 0 && shape.back() % heads == 0) return shape.back() / heads;
  throw std::runtime_error(node + ": input '" + input + "' has shape " + ShapeText(shape) + "; expected " +
                           leading + ", a multiple of " + std::to_string(heads) +
                           ", the number of its heads]");
}

void CheckShape(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                const std::vector<int64_t>& expected) {
  if (shape == expected) return;
  throw std::runtime_error(node + ": input '" + input + "' has shape " + ShapeText(shape) + "; expected " +
                           ShapeText(expected));
}

}  // namespace switchyard::ops
