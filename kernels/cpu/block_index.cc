#include <algorithm>
#include <cmath>
#include <vector>

#include "arch/isa.h"
#include "attention.h"
#include "parallel.h"
#include "product.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

class IndexPass {
 public:
  IndexPass(const BlockIndexArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args),
        table_(Kernels()),
        operand_(table_.operand(args.dtype, Precision::kFloat32)),
        pool_(pool),
        element_(DTypeSize(args.dtype)),
        query_bytes_(RoundUp(args.dim, table_.block) * operand_.bytes),
        most_blocks_(MostBlocks()),
        score_floats_(RoundUp((args.heads + 1) * most_blocks_, 16)),
        means_(workspace.Take<float>(pool.NumThreads() * 2 * args.dim)),
        packed_(workspace.Take<char>(pool.NumThreads() * args.heads * query_bytes_)),
        scores_(workspace.Take<float>(pool.NumThreads() * score_floats_)) {}

  void Run() {
    // Keys of blocks that these tokens complete, then what the tokens choose.
    ForTokens([&](int64_t slot, int64_t row, int64_t token) {
      if ((args_.rows[row].past + token + 1) % args_.block == 0) Complete(slot, row, token);
    });
    ForTokens([&](int64_t slot, int64_t row, int64_t token) { Choose(slot, row, token); });
  }

 private:
  int64_t MostBlocks() const {
    int64_t most = 0;
    for (int64_t r = 0; r < args_.row_count; ++r) most = std::max(most, args_.rows[r].keys / args_.block);
    return most;
  }

  template <typename Body>
  void ForTokens(const Body& body) const {
    struct Item {
      int64_t row, token;
    };
    std::vector<Item> items;
    for (int64_t r = 0; r < args_.row_count; ++r)
      for (int64_t t = 0; t < args_.rows[r].tokens; ++t) items.push_back({r, t});
    ParallelItems(pool_, static_cast<int64_t>(items.size()), [&](int64_t slot, int64_t i) {
      const auto& [row, token] = items[static_cast<size_t>(i)];
      body(slot, row, token);
    });
  }

  char* KeyAt(int64_t row, int64_t position) const {
    const KeyRun run = RunAt(args_.layout, row, 0, position, position + 1);
    return static_cast<char*>(args_.keys) + run.offset * element_;
  }

  // The key of the block that ends with a token: the mean of its keys, normed and turned.
  void Complete(int64_t slot, int64_t row, int64_t token) const {
    float* mean = means_ + slot * 2 * args_.dim;
    float* key = mean + args_.dim;
    const int64_t last = args_.rows[row].past + token;
    std::fill_n(mean, args_.dim, 0.0f);
    for (int64_t position = last + 1 - args_.block; position <= last; ++position) {
      table_.widen[DTypeIndex(args_.dtype)](KeyAt(row, position), args_.dim, key);
      table_.scale_add(key, 1.0f / static_cast<float>(args_.block), args_.dim, mean, true);
    }
    const HeadRotation& rotation = args_.rotation;
    const int64_t angles = (args_.rows[row].first + token) * rotation.pairs;
    table_.norm_rotate(mean, rotation.norm, rotation.epsilon, rotation.cos + angles, rotation.sin + angles,
                       rotation.pairs, args_.dim, key);
    table_.narrow[DTypeIndex(args_.dtype)](key, args_.dim, KeyAt(row, last));
  }

  void Choose(int64_t slot, int64_t row, int64_t token) const {
    const int64_t complete = (args_.rows[row].past + token + 1) / args_.block;
    int32_t* selected = args_.selected + (args_.rows[row].first + token) * args_.top;
    if (complete <= args_.top) {
      std::fill_n(selected, args_.top, -1);
      return;
    }
    const float* scores = Score(slot, row, token, complete);
    std::vector<int32_t> order(static_cast<size_t>(complete));
    for (int64_t i = 0; i < complete; ++i) order[static_cast<size_t>(i)] = static_cast<int32_t>(i);
    const auto better = [&](int32_t a, int32_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    };
    std::nth_element(order.begin(), order.begin() + args_.top - 1, order.end(), better);
    std::copy_n(order.begin(), args_.top, selected);
    std::sort(selected, selected + args_.top);
  }

  // Of the first `count` blocks of a row for a token. NaN counts as nothing, so that there is an order.
  const float* Score(int64_t slot, int64_t row, int64_t token, int64_t count) const {
    char* packed = packed_ + slot * args_.heads * query_bytes_;
    float* sums = scores_ + slot * score_floats_;
    float* products = sums + most_blocks_;
    const float* q = args_.q + (args_.rows[row].first + token) * args_.heads * args_.dim;
    const BlockLayout blocks = Blocks();
    for (int64_t h = 0; h < args_.heads; h += kTileTokens) {
      const int64_t size = std::min<int64_t>(kTileTokens, args_.heads - h);
      char* tile = packed + h * query_bytes_;
      for (int64_t t = 0; t < size; ++t)
        operand_.pack(q + (h + t) * args_.dim, args_.dim, size, tile + t * table_.block * operand_.bytes);
      ForRuns(blocks, row, 0, 0, count, [&](const KeyRun& run) {
        const char* keys =
            static_cast<const char*>(args_.keys) + (run.offset + (args_.block - 1) * args_.dim) * element_;
        operand_.tile({tile, static_cast<int>(size), keys, blocks.token_stride * element_, run.count,
                       args_.dim, products + h * most_blocks_ + run.position, most_blocks_, false, nullptr,
                       0});
      });
    }
    std::fill_n(sums, count, 0.0f);
    for (int64_t h = 0; h < args_.heads; ++h) {
      const float* of = products + h * most_blocks_;
      for (int64_t i = 0; i < count; ++i) sums[i] += of[i] > 0.0f ? of[i] : 0.0f;
    }
    return sums;
  }

  // Where a row's blocks lie as if each were a position.
  BlockLayout Blocks() const {
    BlockLayout blocks = args_.layout;
    blocks.block_size /= args_.block;
    blocks.token_stride *= args_.block;
    return blocks;
  }

  const BlockIndexArgs& args_;
  const KernelTable& table_;
  const Operand& operand_;
  ThreadPool& pool_;
  const int64_t element_;  // bytes of a key's value
  const int64_t query_bytes_;
  const int64_t most_blocks_;   // complete ones of a row
  const int64_t score_floats_;  // of a slot
  float* means_;                // [slots, 2, dim]
  char* packed_;                // for each slot a token's queries
  float* scores_;               // for each slot [1 + heads, most_blocks_]
};

}  // namespace

void BlockIndex(const BlockIndexArgs& args, Workspace& workspace, ThreadPool& pool) {
  const Workspace::Mark mark = workspace.mark();
  IndexPass(args, workspace, pool).Run();
  workspace.Rewind(mark);
}

}  // namespace switchyard::cpu
