// Op CachedAttention: the new tokens of several rows, as projected, are normed and rotated, appended to the
// rows' caches and attend to these causally.
#pragma once
#include <string>

#include "attention.h"
#include "weight_attributes.h"

namespace switchyard::ops {

// Inputs: q [T, heads · D], k, v [T, kv_heads · D], the rows' tokens one row after the other; cos, sin [T,
// R], the angles that turn the first 2R values of a head; past_key, past_value [blocks, kv_heads, block_size,
// D], the pool that all caches lie in, of float32, float16 or bfloat16; row_starts int32 [rows + 1], each
// row's first token, T at the end; past_lengths int32 [rows], the positions of each row that are filled;
// block_tables int32 [rows, max_blocks], the block in which positions block_size · i and following of a row
// lie. What a table says beyond the row's last position is not looked at. Outputs: attended [T, heads · D],
// present_key, present_value as the past ones; where an output's memory is the past's, the pool is written in
// place.
//
// Attributes `q_norm`, `k_norm`: weights [D] of an RMS norm over each head, before the rotation, with
// `epsilon`, and `norm_offset` added to the weights; -1: none. Attribute `window`: how many of the newest
// positions a query sees; -1: all.
//
// Attribute `selected_block`, of models with a sparse index: 0, the default, where queries see all positions;
// else further input selected int32 [T, blocks], as BlockIndex gives it for blocks of so many positions: a
// query sees the blocks that are listed for it and the positions behind the last complete one.
//
// Rows may share blocks of their pasts; a run fails where two rows would write to one block.
struct CachedAttention : Attention {
  // In the order of the op's inputs and outputs.
  enum Input : size_t {
    kQ,
    kK,
    kV,
    kCos,
    kSin,
    kPastKey,
    kPastValue,
    kRowStarts,
    kPastLengths,
    kBlockTables,
    kSelected
  };
  enum Output : size_t { kAttended, kPresentKey, kPresentValue };
  // What the shapes of one run say.
  struct Sizes {
    int64_t tokens, rows, head_dim;
    int64_t rotated;  // pairs of values of a head that the rotation turns
    int64_t blocks, block_size;
    int64_t max_blocks;  // of a row
    int64_t selected;    // blocks listed for a query
  };

  // For caches of one element type.
  static OpSchema Schema(DType cache);
  CachedAttention(const KernelInfo& info, const WeightStore& store);

  // Throws std::runtime_error beginning with `node` unless the inputs of a run fit.
  Sizes CheckShapes(const std::string& node, const KernelContext& context) const;

  // Blocks listed for a query.
  int64_t Selected(const KernelContext& context) const;

  int64_t window;          // -1: none
  int64_t selected_block;  // 0: queries see all
  float epsilon, norm_offset;
  WeightRef q_norm, k_norm;  // [1, D], or empty
};

}  // namespace switchyard::ops
