// Rows of a pass of which some tokens see but a part of the positions before them, as attention kernels take
// rows.
#pragma once
#include <string>
#include <vector>

#include "paged_rows_cpu.h"

namespace switchyard::ops {

struct Selection {
  int64_t block;  // positions; divides the pool's blocks
  int64_t most;   // blocks that a token lists
  int64_t kv_heads;
  const PagedRows& paged;
};

class SelectedRows {
 public:
  // `selected` [tokens, most], as op BlockIndex gives it. Throws std::runtime_error beginning with `node` for
  // blocks that a token cannot see.
  SelectedRows(const std::string& node, const int32_t* selected, const Selection& selection);

  // The pass's rows, up to their first token that does not see all before it.
  const std::vector<cpu::AttentionRow>& whole() const { return whole_; }
  // Tokens each by itself, whose keys are those that it sees, in their order, and where these lie.
  const std::vector<cpu::AttentionRow>& selecting() const { return selecting_; }
  cpu::BlockLayout layout() const;

 private:
  // Adds a token of a row.
  void Select(const std::string& node, const int32_t* blocks, int64_t row, int64_t token);
  // The number, among pieces of `block` positions, of the one that a row's positions from block · index on
  // lie in.
  int32_t PieceAt(int64_t row, int64_t index) const;

  const Selection selection_;
  std::vector<cpu::AttentionRow> whole_, selecting_;
  std::vector<int32_t> tables_;  // [selecting, most + 1]
};

}  // namespace switchyard::ops
