#include "attention.h"

#include "workspace.h"

namespace switchyard::cpu {

void Attention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool) {
  std::vector<int64_t> streamed, tiled;
  for (int64_t row = 0; row < args.row_count; ++row) {
    const int64_t tokens = args.rows[row].tokens;
    if (tokens == 0) continue;
    // The choice follows from the row alone, and with it the row's bits.
    const bool few = tokens == 1 || tokens * (args.heads / args.kv_heads) <= kStreamedQueries;
    (few ? streamed : tiled).push_back(row);
  }
  const Workspace::Mark mark = workspace.mark();
  if (!tiled.empty()) TiledAttention(args, tiled, workspace, pool);
  workspace.Rewind(mark);
  if (!streamed.empty()) StreamedAttention(args, streamed, workspace, pool);
  workspace.Rewind(mark);
}

}  // namespace switchyard::cpu
