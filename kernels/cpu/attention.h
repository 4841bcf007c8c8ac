// What the two ways of computing attention share.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels.h"

namespace switchyard::cpu {

struct KeyRange {
  int64_t begin, end;
};

// The keys that query `token` of `row` sees; empty ranges have begin == end.
inline KeyRange VisibleKeys(const AttentionArgs& args, int64_t row, int64_t token) {
  const AttentionRow& of = args.rows[row];
  if (!args.causal) return {0, of.keys};
  const int64_t behind = of.past + token + 1;
  const int64_t end = std::clamp<int64_t>(behind, 0, of.keys);
  const int64_t begin = args.window > 0 ? std::max<int64_t>(0, behind - args.window) : 0;
  return {std::min(begin, end), end};
}

// Up to so many queries that share a kv head of a row, making panels of its keys and values costs more than
// it saves.
inline constexpr int64_t kStreamedQueries = 32;

// Attention of few queries: keys and values are read where they lie, in fp32 whatever the precision.
void StreamedAttention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool);

// Attention of many queries: keys and values are first turned into panels.
void TiledAttention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool);

}  // namespace switchyard::cpu
