#include "paged_rows_cpu.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "rows.h"

namespace switchyard::ops {
namespace {

std::vector<cpu::AttentionRow> ReadRows(const std::string& node, const PagedInputs& inputs,
                                        const PagedSizes& sizes) {
  const int32_t* lengths = inputs.past_lengths;
  const int64_t capacity = sizes.max_blocks * sizes.block_size;
  const std::vector<RowTokens> row_tokens = ReadRowStarts(node, inputs.row_starts, sizes.rows, sizes.tokens);
  std::vector<cpu::AttentionRow> rows;
  for (int64_t r = 0; r < sizes.rows; r++) {
    const auto [first, tokens] = row_tokens[static_cast<size_t>(r)];
    if (lengths[r] < 0 || lengths[r] + tokens > capacity) {
      throw std::runtime_error(node + ": input 'past_lengths' is " + std::to_string(lengths[r]) + " for " +
                               RowText(r) + ", which has " + std::to_string(tokens) + " new tokens; its " +
                               std::to_string(sizes.max_blocks) + " blocks of input 'block_tables' hold " +
                               std::to_string(capacity) + " positions");
    }
    rows.push_back({.first = first, .tokens = tokens, .past = lengths[r], .keys = lengths[r] + tokens});
  }
  return rows;
}

void CheckTable(const std::string& node, const cpu::AttentionRow& row, int64_t index, const int32_t* table,
                const PagedSizes& sizes) {
  for (int64_t i = 0; i * sizes.block_size < row.keys; i++) {
    if (table[i] >= 0 && table[i] < sizes.blocks) continue;
    throw std::runtime_error(node + ": input 'block_tables' is " + std::to_string(table[i]) + " for block " +
                             std::to_string(i) + " of " + RowText(index) + ", which has " +
                             std::to_string(row.keys) + " positions; the pool has blocks 0 to " +
                             std::to_string(sizes.blocks - 1));
  }
}

// Where each token goes; checks the tables on the way.
std::vector<int64_t> FindPlaces(const std::string& node, const PagedRows& of, const PagedSizes& sizes) {
  std::vector<int64_t> places;
  std::vector<std::pair<int32_t, int64_t>> written;  // blocks, and the rows that write to them
  for (size_t r = 0; r < of.rows.size(); r++) {
    const cpu::AttentionRow& row = of.rows[r];
    const int64_t index = static_cast<int64_t>(r);
    const int32_t* table = of.layout.tables + index * sizes.max_blocks;
    if (row.tokens == 0) continue;
    CheckTable(node, row, index, table, sizes);
    for (int64_t position = row.past; position < row.keys; position++) {
      const int32_t block = table[position / sizes.block_size];
      const int64_t within = position % sizes.block_size;
      if (within == 0 || position == row.past) written.emplace_back(block, index);
      places.push_back(block * of.layout.block_stride + within * of.layout.token_stride);
    }
  }
  std::sort(written.begin(), written.end());
  for (size_t i = 1; i < written.size(); i++) {
    if (written[i].first != written[i - 1].first) continue;
    throw std::runtime_error(node + ": input 'block_tables' has " + RowText(written[i - 1].second) + " and " +
                             RowText(written[i].second) + " write to block " +
                             std::to_string(written[i].first));
  }
  return places;
}

}  // namespace

PagedRows ReadPagedRows(const std::string& node, const PagedInputs& inputs, const PagedSizes& sizes) {
  const int64_t head = sizes.block_size * sizes.head_dim;
  PagedRows read = {.rows = ReadRows(node, inputs, sizes),
                    .layout = {.block_size = sizes.block_size,
                               .block_stride = sizes.heads * head,
                               .head_stride = head,
                               .token_stride = sizes.head_dim,
                               .tables = inputs.block_tables,
                               .table_size = sizes.max_blocks},
                    .places = {}};
  read.places = FindPlaces(node, read, sizes);
  return read;
}

}  // namespace switchyard::ops
