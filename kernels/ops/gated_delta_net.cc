#include "gated_delta_net.h"

#include <stdexcept>

#include "../common/shape_text.h"
#include "attention.h"

namespace switchyard::ops {
namespace {

// Of the convolution; bounds what kernels keep for a token.
constexpr int64_t kMaxTaps = 64;

}  // namespace

OpSchema GatedDeltaNet::Schema() {
  return {"GatedDeltaNet",
          {{ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kInt32},
           {ort::kInt32},
           {ort::kInt32}},
          {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}}};
}

GatedDeltaNet::GatedDeltaNet(const KernelInfo& info)
    : key_heads(info.Int("key_heads")),
      grouped(info.IntOr("grouped", 0) != 0),
      gated(info.IntOr("gated", 1) != 0),
      epsilon(info.FloatOr("epsilon", 0.0f)) {
  if (key_heads < 1)
    info.Fail("attribute 'key_heads' is " + std::to_string(key_heads) + "; expected at least 1");
}

GatedDeltaNet::Sizes GatedDeltaNet::CheckShapes(const std::string& node, const KernelContext& context) const {
  const auto shape = [&](Input input) { return context.Input(input).shape; };
  const std::vector<int64_t> conv = shape(kConv), state = shape(kPastState);
  if (state.size() != 4 || state[1] < 1 || state[1] % key_heads != 0 || state[2] < 1 || state[3] < 1) {
    throw std::runtime_error(node + ": input 'past_state' has shape " + ShapeText(state) +
                             "; expected [slots, a multiple of " + std::to_string(key_heads) +
                             ", key_dim, value_dim]");
  }
  const auto leading = [&](Input input) { return shape(input).empty() ? 0 : shape(input)[0]; };
  Sizes sizes = {.tokens = leading(kQkv),
                 .rows = leading(kPastLengths),
                 .slots = state[0],
                 .value_heads = state[1],
                 .key_dim = state[2],
                 .value_dim = state[3],
                 .kernel = leading(kConv),
                 .channels = 2 * key_heads * state[2] + state[1] * state[3]};
  if (sizes.kernel < 1 || sizes.kernel > kMaxTaps) {
    throw std::runtime_error(node + ": input 'conv' has shape " + ShapeText(conv) + "; expected 1 to " +
                             std::to_string(kMaxTaps) + " taps");
  }
  const int64_t values = sizes.value_heads * sizes.value_dim;
  const int64_t mixed = grouped ? sizes.channels + values : sizes.channels;
  const int64_t gates = grouped ? 2 * sizes.value_heads : sizes.value_heads;
  const auto check = [&](Input input, const char* name, const std::vector<int64_t>& expected) {
    CheckShape(node, name, shape(input), expected);
  };
  check(kQkv, "qkv", {sizes.tokens, mixed});
  check(kZ, "z", {sizes.tokens, grouped ? mixed : values});
  check(kB, "b", {sizes.tokens, gates});
  check(kA, "a", {sizes.tokens, gates});
  check(kConv, "conv", {sizes.kernel, sizes.channels});
  check(kALog, "a_log", {sizes.value_heads});
  check(kDtBias, "dt_bias", {sizes.value_heads});
  check(kNorm, "norm", {sizes.value_dim});
  check(kPastConv, "past_conv", {sizes.slots, sizes.kernel - 1, sizes.channels});
  check(kRowStarts, "row_starts", {sizes.rows + 1});
  check(kPastLengths, "past_lengths", {sizes.rows});
  check(kStateSlots, "state_slots", {sizes.rows});
  return sizes;
}

GatedDeltaNet::Parts GatedDeltaNet::Find(const KernelContext& context, const Sizes& sizes) const {
  const float* qkv = context.Input(kQkv).As<float>();
  const float* b = context.Input(kB).As<float>();
  const int64_t group = sizes.value_heads / key_heads;
  const int64_t values = group * sizes.value_dim;
  if (grouped) {
    const int64_t width = 2 * sizes.key_dim + 2 * values;
    const auto part = [&](int64_t offset) { return KeyHeadValues{qkv + offset, key_heads * width, width}; };
    const auto gate = [&](int64_t offset) {
      return KeyHeadValues{b + offset, 2 * sizes.value_heads, 2 * group};
    };
    return {part(0), part(sizes.key_dim), part(2 * sizes.key_dim), part(2 * sizes.key_dim + values),
            gate(0), gate(group)};
  }
  const int64_t keys = key_heads * sizes.key_dim;
  return {{qkv, sizes.channels, sizes.key_dim},
          {qkv + keys, sizes.channels, sizes.key_dim},
          {qkv + 2 * keys, sizes.channels, values},
          {context.Input(kZ).As<float>(), key_heads * values, values},
          {b, sizes.value_heads, group},
          {context.Input(kA).As<float>(), sizes.value_heads, group}};
}

}  // namespace switchyard::ops
