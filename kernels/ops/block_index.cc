#include "block_index.h"

#include <stdexcept>

#include "attention.h"

namespace switchyard::ops {

OpSchema BlockIndex::Schema(DType keys) {
  const auto type = static_cast<ort::ElementType>(keys);
  return {"BlockIndex",
          {{ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {type},
           {ort::kInt32},
           {ort::kInt32},
           {ort::kInt32}},
          {{ort::kInt32}, {type}}};
}

BlockIndex::BlockIndex(const KernelInfo& info, const WeightStore& store)
    : heads(info.Int("heads")),
      block(info.Int("block")),
      top(info.Int("top")),
      epsilon(info.FloatOr("epsilon", 0.0f)),
      norm_offset(info.FloatOr("norm_offset", 0.0f)),
      q_norm(FindBias(info, store, {info.Int("q_norm"), "q_norm"}, kAnyExtent)),
      k_norm(FindBias(info, store, {info.Int("k_norm"), "k_norm"}, kAnyExtent)) {
  const auto positive = [&](const char* name, int64_t value) {
    if (value < 1)
      info.Fail(std::string("attribute '") + name + "' is " + std::to_string(value) +
                "; expected at least 1");
  };
  positive("heads", heads);
  positive("block", block);
  positive("top", top);
}

BlockIndex::Sizes BlockIndex::CheckShapes(const std::string& node, const KernelContext& context) const {
  const auto shape = [&](Input input) { return context.Input(input).shape; };
  const std::vector<int64_t> keys = shape(kPastKeys), cos = shape(kCos), tables = shape(kBlockTables);
  const Sizes sizes = {.tokens = shape(kK).empty() ? 0 : shape(kK)[0],
                       .rows = shape(kPastLengths).empty() ? 0 : shape(kPastLengths)[0],
                       .dim = keys.size() == 4 ? keys[3] : 0,
                       .rotated = cos.size() == 2 ? cos[1] : 0,
                       .blocks = keys.empty() ? 0 : keys[0],
                       .block_size = keys.size() == 4 ? keys[2] : 0,
                       .max_blocks = tables.size() == 2 ? tables[1] : 0};
  CheckShape(node, "q", shape(kQ), {sizes.tokens, heads * sizes.dim});
  CheckShape(node, "k", shape(kK), {sizes.tokens, sizes.dim});
  const std::vector<int64_t> angles = {sizes.tokens, sizes.rotated};
  CheckShape(node, "cos", cos, angles);
  CheckShape(node, "sin", shape(kSin), angles);
  CheckShape(node, "block_cos", shape(kBlockCos), angles);
  CheckShape(node, "block_sin", shape(kBlockSin), angles);
  CheckShape(node, "past_keys", keys, {sizes.blocks, 1, sizes.block_size, sizes.dim});
  CheckShape(node, "row_starts", shape(kRowStarts), {sizes.rows + 1});
  CheckShape(node, "past_lengths", shape(kPastLengths), {sizes.rows});
  CheckShape(node, "block_tables", tables, {sizes.rows, sizes.max_blocks});
  if (2 * sizes.rotated > sizes.dim || q_norm.cols != sizes.dim || k_norm.cols != sizes.dim) {
    throw std::runtime_error(node + ": the keys have " + std::to_string(sizes.dim) + " values, the norms " +
                             std::to_string(q_norm.cols) + " and " + std::to_string(k_norm.cols) +
                             ", and input 'cos' turns " + std::to_string(2 * sizes.rotated));
  }
  if (sizes.block_size < 1 || sizes.block_size % block != 0) {
    throw std::runtime_error(node + ": attribute 'block' is " + std::to_string(block) +
                             "; expected a divisor of the " + std::to_string(sizes.block_size) +
                             " positions that lie side by side");
  }
  return sizes;
}

}  // namespace switchyard::ops
