#include "causal_conv.h"

#include <stdexcept>

#include "../common/shape_text.h"
#include "attention.h"

namespace switchyard::ops {
namespace {

// Bounds what kernels keep for a token.
constexpr int64_t kMaxTaps = 64;

}  // namespace

OpSchema CausalConv::Schema() {
  return {"CausalConv",
          {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}, {ort::kInt32}, {ort::kInt32}, {ort::kInt32}},
          {{ort::kFloat}, {ort::kFloat}}};
}

CausalConv::CausalConv(const KernelInfo& info) : dilation(info.IntOr("dilation", 1)) {
  if (dilation < 1)
    info.Fail("attribute 'dilation' is " + std::to_string(dilation) + "; expected at least 1");
}

CausalConv::Sizes CausalConv::CheckShapes(const std::string& node, const KernelContext& context) const {
  const auto shape = [&](Input input) { return context.Input(input).shape; };
  const auto leading = [&](Input input) { return shape(input).empty() ? 0 : shape(input)[0]; };
  Sizes sizes = {.tokens = leading(kX),
                 .rows = leading(kPastLengths),
                 .slots = leading(kPast),
                 .channels = shape(kWeight).empty() ? 0 : shape(kWeight).back(),
                 .kernel = leading(kWeight),
                 .context = 0};
  if (sizes.kernel < 1 || sizes.kernel > kMaxTaps) {
    throw std::runtime_error(node + ": input 'weight' has shape " + ShapeText(shape(kWeight)) +
                             "; expected 1 to " + std::to_string(kMaxTaps) + " taps");
  }
  sizes.context = (sizes.kernel - 1) * dilation;
  CheckShape(node, "x", shape(kX), {sizes.tokens, sizes.channels});
  CheckShape(node, "weight", shape(kWeight), {sizes.kernel, sizes.channels});
  CheckShape(node, "past", shape(kPast), {sizes.slots, sizes.context, sizes.channels});
  CheckShape(node, "row_starts", shape(kRowStarts), {sizes.rows + 1});
  CheckShape(node, "past_lengths", shape(kPastLengths), {sizes.rows});
  CheckShape(node, "state_slots", shape(kStateSlots), {sizes.rows});
  return sizes;
}

}  // namespace switchyard::ops
