// What the two ways of computing attention share.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace switchyard::cpu {

struct KeyRange {
  int64_t begin, end;
};

// The keys that a row's token number `token` sees; empty ranges have begin == end.
inline KeyRange VisibleKeys(const AttentionArgs& args, const AttentionRow& row, int64_t token) {
  if (!args.causal) return {0, row.keys};
  const int64_t behind = row.past + token + 1;
  const int64_t end = std::clamp<int64_t>(behind, 0, row.keys);
  const int64_t begin = args.window > 0 ? std::max<int64_t>(0, behind - args.window) : 0;
  return {std::min(begin, end), end};
}

// Keys that lie side by side in one block.
struct KeyRun {
  int64_t position, count;
  int64_t offset;  // elements from the pool's beginning to the first one
};

// The keys of a row and kv head from `position` on as far as they lie in one block and before `end`.
inline KeyRun RunAt(const BlockLayout& layout, int64_t row, int64_t kv_head, int64_t position, int64_t end) {
  const int64_t index = position / layout.block_size;
  const int64_t within = position - index * layout.block_size;
  const int64_t block = layout.tables == nullptr ? row : layout.tables[row * layout.table_size + index];
  return {position, std::min(end - position, layout.block_size - within),
          block * layout.block_stride + kv_head * layout.head_stride + within * layout.token_stride};
}

// Calls body(KeyRun) for the keys [begin, end) of a row and kv head, in order.
template <typename Body>
void ForRuns(const BlockLayout& layout, int64_t row, int64_t kv_head, int64_t begin, int64_t end,
             const Body& body) {
  for (int64_t position = begin; position < end;) {
    const KeyRun run = RunAt(layout, row, kv_head, position, end);
    body(run);
    position += run.count;
  }
}

// Up to so many queries that share a kv head of a row, making panels of its keys and values costs more than
// it saves.
inline constexpr int64_t kStreamedQueries = 32;

// Attention of rows (numbers of args.rows) with few queries: keys and values are read where they lie, and
// widened to fp32 whatever the precision.
void StreamedAttention(const AttentionArgs& args, const std::vector<int64_t>& rows, Workspace& workspace,
                       ThreadPool& pool);

// Attention of rows with many queries: keys and values are first turned into panels.
void TiledAttention(const AttentionArgs& args, const std::vector<int64_t>& rows, Workspace& workspace,
                    ThreadPool& pool);

}  // namespace switchyard::cpu
