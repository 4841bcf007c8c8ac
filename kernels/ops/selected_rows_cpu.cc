#include "selected_rows_cpu.h"

#include <stdexcept>

#include "rows.h"

namespace switchyard::ops {

SelectedRows::SelectedRows(const std::string& node, const int32_t* selected, const Selection& selection)
    : selection_(selection) {
  for (size_t r = 0; r < selection_.paged.rows.size(); r++) {
    cpu::AttentionRow whole = selection_.paged.rows[r];
    const auto blocks = [&](int64_t token) { return selected + (whole.first + token) * selection_.most; };
    const int64_t tokens = whole.tokens;
    whole.tokens = 0;
    // Positions only grow, and with them the blocks that there are to choose from.
    while (whole.tokens < tokens && blocks(whole.tokens)[0] < 0) whole.tokens++;
    for (int64_t token = whole.tokens; token < tokens; token++)
      Select(node, blocks(token), static_cast<int64_t>(r), token);
    whole.keys = whole.past + whole.tokens;
    whole_.push_back(whole);
  }
}

void SelectedRows::Select(const std::string& node, const int32_t* blocks, int64_t row, int64_t token) {
  const cpu::AttentionRow& of = selection_.paged.rows[static_cast<size_t>(row)];
  const int64_t behind = of.past + token + 1;  // positions that it could see
  const int64_t complete = behind / selection_.block;
  int64_t last = -1;
  for (int64_t i = 0; i < selection_.most; i++) {
    if (blocks[i] <= last || blocks[i] >= complete) {
      throw std::runtime_error(node + ": input 'selected' has block " + std::to_string(blocks[i]) +
                               " after " + std::to_string(last) + " for token " + std::to_string(token) +
                               " of " + RowText(row) + "; expected ascending ones of its " +
                               std::to_string(complete) + " complete blocks");
    }
    last = blocks[i];
    tables_.push_back(PieceAt(row, last));
  }
  const int64_t tail = behind % selection_.block;
  tables_.push_back(tail > 0 ? PieceAt(row, complete) : 0);
  const int64_t keys = selection_.most * selection_.block + tail;
  selecting_.push_back({.first = of.first + token, .tokens = 1, .past = keys - 1, .keys = keys});
}

int32_t SelectedRows::PieceAt(int64_t row, int64_t index) const {
  const cpu::BlockLayout& pool = selection_.paged.layout;
  const int64_t pieces = pool.block_size / selection_.block;  // of one head in a block of the pool
  const int32_t block = pool.tables[row * pool.table_size + index / pieces];
  return static_cast<int32_t>(block * selection_.kv_heads * pieces + index % pieces);
}

cpu::BlockLayout SelectedRows::layout() const {
  cpu::BlockLayout pieces = selection_.paged.layout;
  pieces.block_size = selection_.block;
  pieces.block_stride = selection_.block * pieces.token_stride;
  pieces.tables = tables_.data();
  pieces.table_size = selection_.most + 1;
  return pieces;
}

}  // namespace switchyard::ops
