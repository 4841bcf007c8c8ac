#include "cached_attention.h"

#include <bit>
#include <stdexcept>

namespace switchyard::ops {
namespace {

// What the kernels of every device can walk over.
constexpr int64_t kLeastBlockSize = 16;

WeightRef FindNorm(const KernelInfo& info, const WeightStore& store, const char* name) {
  return FindBias(info, store, {info.IntOr(name, kNoWeight), name}, kAnyExtent);
}

void CheckNorm(const std::string& node, const char* name, const WeightRef& norm, int64_t head_dim) {
  if (norm.empty() || norm.cols == head_dim) return;
  throw std::runtime_error(node + ": attribute '" + name + "': tensor '" + norm.values->name +
                           "' has shape " + ShapeText(norm.values->shape) + ", but a head has " +
                           std::to_string(head_dim) + " values");
}

}  // namespace

OpSchema CachedAttention::Schema(DType cache) {
  const auto type = static_cast<ort::ElementType>(cache);
  return {"CachedAttention",
          {{ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {type},
           {type},
           {ort::kInt32},
           {ort::kInt32},
           {ort::kInt32},
           {ort::kInt32, ort::kOptional}},
          {{ort::kFloat}, {type}, {type}}};
}

CachedAttention::CachedAttention(const KernelInfo& info, const WeightStore& store)
    : Attention(info),
      window(info.IntOr("window", -1)),
      selected_block(info.IntOr("selected_block", 0)),
      epsilon(info.FloatOr("epsilon", 0.0f)),
      norm_offset(info.FloatOr("norm_offset", 0.0f)),
      q_norm(FindNorm(info, store, "q_norm")),
      k_norm(FindNorm(info, store, "k_norm")) {
  if (window != -1 && window < 1) {
    info.Fail("attribute 'window' is " + std::to_string(window) + "; expected at least 1, or -1 for none");
  }
  if (selected_block < 0 || (selected_block > 0 && window != -1)) {
    info.Fail("attribute 'selected_block' is " + std::to_string(selected_block) +
              "; expected 0 or more, and no window beside it");
  }
}

int64_t CachedAttention::Selected(const KernelContext& context) const {
  if (selected_block == 0) return 0;
  const std::vector<int64_t> shape = context.Input(kSelected).shape;
  return shape.size() == 2 ? shape[1] : 0;
}

CachedAttention::Sizes CachedAttention::CheckShapes(const std::string& node,
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
                       .max_blocks = tables.size() == 2 ? tables[1] : 0,
                       .selected = Selected(context)};
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
  if (selected_block > 0) {
    CheckShape(node, "selected", context.Input(kSelected).shape, {sizes.tokens, sizes.selected});
    if (sizes.selected < 1 || sizes.block_size % selected_block != 0) {
      throw std::runtime_error(node + ": input 'selected' lists " + std::to_string(sizes.selected) +
                               " blocks of " + std::to_string(selected_block) +
                               " positions; expected some of a divisor of " +
                               std::to_string(sizes.block_size));
    }
  }
  CheckNorm(node, "q_norm", q_norm, sizes.head_dim);
  CheckNorm(node, "k_norm", k_norm, sizes.head_dim);
  return sizes;
}

}  // namespace switchyard::ops
