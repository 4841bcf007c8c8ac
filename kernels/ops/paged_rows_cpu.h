// Rows of a pass whose positions lie in blocks of a pool, as ops of the CPU read them.
#pragma once
#include <string>
#include <vector>

#include "../cpu/kernels.h"

namespace switchyard::ops {

// What shapes say of a pool [blocks, heads, block_size, head_dim] and the rows that use it.
struct PagedSizes {
  int64_t tokens, rows;
  int64_t blocks, heads, block_size, head_dim;
  int64_t max_blocks;  // of a row
};
// Inputs of the same names.
struct PagedInputs {
  const int32_t *row_starts, *past_lengths, *block_tables;
};

struct PagedRows {
  std::vector<cpu::AttentionRow> rows;
  cpu::BlockLayout layout;
  std::vector<int64_t> places;  // [T]: elements from the pool's beginning to where head 0 of a token goes
};

// Throws std::runtime_error beginning with `node` where the inputs do not fit, or two rows write to one
// block.
PagedRows ReadPagedRows(const std::string& node, const PagedInputs& inputs, const PagedSizes& sizes);

}  // namespace switchyard::ops
