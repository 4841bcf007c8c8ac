// Op BlockIndex: which blocks of positions each token attends to, by scores of small heads of their own (HF
// Qwen4ExpTextQSAIndexer).
#pragma once
#include <string>

#include "weight_attributes.h"

namespace switchyard::ops {

// Inputs: q [T, heads · D], k [T, D] as projected, of the rows' tokens one row after the other; cos, sin [T,
// R], the angles that turn the first 2R values of a head; block_cos, block_sin [T, R], those of the first
// position of the block that a token lies in; past_keys [blocks, 1, block_size, D], the pool, of float32,
// float16 or bfloat16; row_starts, past_lengths, block_tables as of CachedAttention. Outputs: selected int32
// [T, top]; present_keys as the past ones; where its memory is the past's, the pool is written in place.
//
// A row's positions from 0 on are cut into blocks of `block`. Until a block is complete, the pool holds its
// keys as projected; its last position then gets the key of the block: their mean, normed, turned by the
// first position's angles. A token scores the complete blocks up to its own position, the sum over the heads
// of relu(q · key), and lists the `top` best by ascending place, equal ones by ascending place; with no more
// of them than that it lists -1, as it sees all.
//
// Attributes `heads`, `block`, `top`; `q_norm`, `k_norm`: weights [D] of RMS norms, with `epsilon` and
// `norm_offset` added to the weights.
struct BlockIndex {
  enum Input : size_t {
    kQ,
    kK,
    kCos,
    kSin,
    kBlockCos,
    kBlockSin,
    kPastKeys,
    kRowStarts,
    kPastLengths,
    kBlockTables
  };
  enum Output : size_t { kSelected, kPresentKeys };
  struct Sizes {
    int64_t tokens, rows, dim;
    int64_t rotated;
    int64_t blocks, block_size, max_blocks;
  };

  // For keys of one element type.
  static OpSchema Schema(DType keys);
  BlockIndex(const KernelInfo& info, const WeightStore& store);

  // Throws std::runtime_error beginning with `node` unless the inputs of a run fit.
  Sizes CheckShapes(const std::string& node, const KernelContext& context) const;

  int64_t heads, block, top;
  float epsilon, norm_offset;
  WeightRef q_norm, k_norm;  // [1, D]
};

}  // namespace switchyard::ops
